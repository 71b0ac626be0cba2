"""Any analysis with a time line is read at 25 steps a second."""

import numpy as np
import pytest

from visavox.detectors.analysis import Analysis, Branch, ModelCard, Segment
from visavox.detectors.steps import NoCurve, from_analysis

CARD = ModelCard(detector="some")


def analysis(timeline=(), branches=None) -> Analysis:
    return Analysis.of(0.5, card=CARD, branches=branches or [Branch("some", 0.5, 1.0, 0.0)], timeline=timeline)


def test_overlapping_segments_are_averaged_and_gaps_are_bridged():
    times = 10 + np.arange(50) / 25
    parts = [Segment(10.0, 10.8, 0.2), Segment(10.4, 10.8, 0.6), Segment(11.6, 12.0, 0.8)]
    steps = from_analysis(analysis(parts), times)
    assert steps.fake[:10] == pytest.approx(0.2) and steps.fake[10:20] == pytest.approx(0.4)
    assert steps.fake[40:] == pytest.approx(0.8)
    assert (np.diff(steps.fake[19:41]) > 0).all()  # between what is known


def test_branches_count_by_their_weights_where_the_clip_has_no_time_line():
    parts = [Segment(0.0, 1.0, 0.0)], [Segment(0.0, 1.0, 1.0)]
    times = np.arange(25) / 25
    weighted = [Branch("a", 0.5, 0.3, 0.0, parts[0]), Branch("b", 0.5, 0.1, 0.0, parts[1])]
    assert from_analysis(analysis(branches=weighted), times).fake == pytest.approx(0.25)
    alike = [Branch("a", 0.5, 0.0, 0.0, parts[0]), Branch("b", 0.5, 0.0, 0.0, parts[1])]
    assert from_analysis(analysis(branches=alike), times).fake == pytest.approx(0.5)


def test_a_detector_without_time_line_says_so():
    with pytest.raises(NoCurve, match="as a whole"):
        from_analysis(analysis(), np.arange(25) / 25)
