"""AP, AR and soft-NMS are those of LAV-DF's published code: goldens are its numbers on random clips."""

import json
from pathlib import Path

import numpy as np
import pytest

from visavox.localisation.metric import TruthError, average_precision, average_recall, overlap
from visavox.localisation.segments import KEPT, propose, soft_nms

GOLDENS = json.loads((Path(__file__).parent / "goldens/lavdf_metric.json").read_text())


def arrays(clips: dict[str, list], width: int) -> dict[str, np.ndarray]:
    return {name: np.array(rows, np.float64).reshape(-1, width) for name, rows in clips.items()}


@pytest.mark.parametrize("golden", GOLDENS, ids=range(len(GOLDENS)))
def test_numbers_are_those_of_the_published_code(golden: dict):
    found, truth = arrays(golden["found"], 3), arrays(golden["truth"], 2)
    at = [float(key) for key in golden["ap"]]
    assert average_precision(found, truth, at) == pytest.approx(dict(zip(at, golden["ap"].values())), abs=1e-6)
    counts = [int(key) for key in golden["ar"]]
    assert average_recall(found, truth, counts) == pytest.approx(dict(zip(counts, golden["ar"].values())), abs=1e-6)
    published = np.array(golden["soft_nms"])  # whose loop leaves the last one out
    np.testing.assert_allclose(soft_nms(found["0.mp4"])[:-1], published, atol=1e-8)


def test_a_case_by_hand():
    truth = {"a": np.array([[1.0, 2.0], [4.0, 5.0]]), "real": np.zeros((0, 2))}
    found = {"a": np.array([[0.9, 1.0, 2.0], [0.5, 4.0, 5.0]]), "real": np.array([[0.7, 0.0, 1.0]])}
    # Ranked: right, false alarm, right -> precision 1, 1/2, 2/3; the published curve leaves the first step out.
    assert average_precision(found, truth, [0.5], published=False)[0.5] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(found, truth, [0.5])[0.5] == pytest.approx(0.5 * 2 / 3)
    assert average_recall(found, truth, [1, 2]) == {1: 0.5, 2: 1.0}


def test_an_overlap_must_exceed_its_threshold():
    exactly_half = {"a": np.array([[0.9, 0.0, 1.0]])}, {"a": np.array([[0.0, 2.0]])}
    assert overlap(exactly_half[0]["a"][:, 1:], exactly_half[1]["a"])[0, 0] == 0.5
    assert average_recall(*exactly_half, [1], [0.5])[1] == 0.0
    assert average_recall(*exactly_half, [1], [0.49])[1] == 1.0


def test_one_proposal_finds_one_segment():
    truth = {"a": np.array([[0.0, 1.0], [0.1, 1.0]])}
    found = {"a": np.array([[0.9, 0.0, 1.0]])}
    assert average_precision(found, truth, [0.5], published=False)[0.5] == pytest.approx(0.5)


def test_clips_without_proposals_miss_their_segments_and_unnamed_ones_are_refused():
    truth = {"a": np.array([[0.0, 1.0]])}
    assert average_precision({"a": np.zeros((0, 3))}, truth)[0.5] == 0.0
    assert average_recall({"a": np.zeros((0, 3))}, truth)[50] == 0.0
    with pytest.raises(TruthError, match="no proposals"):
        average_precision({}, truth)
    with pytest.raises(TruthError, match="nothing to find"):
        average_precision({"a": np.zeros((0, 3))}, {"a": np.zeros((0, 2))})
    with pytest.raises(TruthError, match="no number"):
        average_precision({"a": np.array([[np.nan, 0, 1]])}, truth)


def test_a_step_in_a_curve_becomes_a_segment_exact_to_the_step():
    times, curve = 3.0 + np.arange(200) / 25, np.full(200, 0.1)
    curve[60:75] = 0.9
    found = propose(times, curve)
    assert found[0, 1:] == pytest.approx([3 + 60 / 25, 3 + 75 / 25])
    assert found[0, 0] > 0.7 and (found[1:, 0] < 0.2).all()
    two = curve.copy()
    two[150:160] = 0.8
    starts = propose(times, two)[:2, 1]
    assert sorted(starts) == pytest.approx([3 + 60 / 25, 3 + 150 / 25])


def test_segments_of_noise_are_bounded_and_stay_in_the_clip():
    rng = np.random.default_rng(0)
    for length in (1, 2, 5, 400):
        found = propose(np.arange(length) / 25, rng.random(length))
        assert 1 <= len(found) <= KEPT and np.isfinite(found).all()
        assert (found[:, 1] < found[:, 2]).all() and found[:, 1:].min() >= 0 and found[:, 2].max() <= length / 25 + 1e-9
        assert (np.diff(found[:, 0]) <= 1e-12).all() or len(found) == 1
    assert len(propose(np.zeros(0), np.zeros(0))) == 0


def test_a_flat_curve_is_one_segment_that_says_as_much_as_the_clip():
    for level in (0.2, 0.9):
        (score, start, end), *_ = propose(np.arange(100) / 25, np.full(100, level))
        assert score == pytest.approx(level / 2) and (start, end) == (0, pytest.approx(4.0))
