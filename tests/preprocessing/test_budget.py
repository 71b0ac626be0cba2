"""A time budget: what is left out of a video, in what order, and that it is said."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.commands import evaluate as evaluation
from visavox.detectors import build
from visavox.faces.tracking import TRUST
from visavox.preprocessing import budget
from visavox.preprocessing.budget import Budget, Cuts, Planner, Rates, levels_of

RATES = {"frame": 0.001, "detection": 0.02, "window": 0.02, "score": {16: 4.0, 8: 2.0, 4: 1.0}}


class Clock:
    """Stands still until it is told."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(budget, "time", clock)
    return clock


def test_the_levels_leave_out_faces_then_detections_then_windows():
    assert levels_of(16, 1) == [
        Cuts(16, 16, 1),
        *(Cuts(8, 16, 1), Cuts(4, 16, 1)),
        *(Cuts(4, 32, 1), Cuts(4, 64, 1)),
        *(Cuts(4, 64, 2), Cuts(4, 64, 5)),
    ]
    assert levels_of(16, 2, fewer_faces=False) == [Cuts(16, t, 2) for t in (16, 32, 64)] + [Cuts(16, 64, 5)]
    assert levels_of(1, 5)[0] == Cuts(1, 16, 5) and all(cuts.faces == 1 for cuts in levels_of(1, 5))


@pytest.mark.parametrize(
    "seconds, cuts",
    [  # 250 frames: 0.25 s, 50 detections (25, 12.5) of 20 ms, 250 windows (125, 50) of 20 ms, 4 (2, 1) s
        (10.26, Cuts(16, 16, 1)),
        (10.24, Cuts(8, 16, 1)),
        (8.2, Cuts(4, 16, 1)),
        (7.2, Cuts(4, 32, 1)),
        (6.7, Cuts(4, 64, 1)),
        (6.4, Cuts(4, 64, 2)),
        (3.9, Cuts(4, 64, 5)),
        (0.1, Cuts(4, 64, 5)),
    ],
)
def test_the_first_level_that_fits_is_taken(clock, seconds, cuts):
    plan = Budget(seconds, levels_of(16, 1), Rates(**RATES))
    assert plan.looking(250, 64) == {"step": 64, "trust": cuts.trust}
    assert plan.cuts == cuts
    assert plan.looking(250, 5) == {
        "step": 5 if plan.cuts.trust == TRUST else plan.cuts.trust,
        "trust": plan.cuts.trust,
    }


def test_what_was_gained_is_given_back_and_what_was_lost_is_made_up(clock):
    plan = Budget(10.24, levels_of(16, 1), Rates(**RATES))
    plan.looking(250, 64)
    clock.now = 1.0  # the face was found sooner than feared
    assert plan.stride(250) == 1 and plan.cuts.faces == 16
    clock.now = 7.0  # something else slowed us down
    assert plan.faces() == 8
    assert plan.note() == "time budget: 8 of 16 faces"
    clock.now = 9.9
    assert plan.faces() == 4 and plan.note() == "time budget: 4 of 16 faces, 10.24 s were not enough"


def test_a_note_names_all_that_was_left_out(clock):
    plan = Budget(2.0, levels_of(16, 1), Rates(**RATES))
    plan.looking(250, 64), plan.stride(250)
    plan.faces()
    assert plan.note() == (
        "time budget: 8 of 16 faces, faces detected every 64 frames instead of 16, sync_stride 5 instead of 1"
    )
    assert plan.record() == {"seconds": 2.0, "faces": 8, "trust": 64, "stride": 5}


def test_nothing_is_said_of_a_video_that_fits(clock):
    plan = Budget(60.0, levels_of(16, 1), Rates(**RATES))
    plan.looking(250, 64), plan.stride(250), plan.faces()
    assert plan.note() == ""


def test_rates_are_learnt(clock):
    rates = Rates()
    plan = Budget(60.0, levels_of(16, 1), rates)
    plan.finish({"decode": 0.2, "cut": 0.3, "detect": 1.0, "sync": 5.0}, 250, 40, 250)
    assert (rates.frame, rates.detection, rates.window) == (0.002, 0.025, 0.02)
    plan.finish({"detect": 3.0}, 250, 40, 0)
    assert rates.detection == pytest.approx((0.025 + 0.075) / 2) and rates.window == 0.02


def test_a_network_sees_fewer_faces_with_the_same_weights(tiny_config, make_bundle):
    torch.manual_seed(0)
    network = build.build(tiny_config)
    network.latency.fit(torch.randn(9, 33))
    whole = tiny_config.frame_num
    fewer = network.with_frames(whole // 2)
    assert fewer.classifier is network.classifier and network.config.frame_num == whole
    bundle = make_bundle()
    assert fewer.prepare(bundle, None).frames.shape[1] == whole  # half the faces and half the mel images
    assert network.with_frames(whole).score([bundle]) == network.score([bundle])
    assert 0 <= fewer.score([bundle])[0] <= 1 and fewer.score([bundle]) != network.score([bundle])


def test_a_run_is_planned_with_the_scorers_own_rates(tiny_config):
    network = build.build(tiny_config)
    network.latency.fit(torch.randn(9, 33))
    planner = Planner.of(3.0, network, tiny_config)
    assert set(planner.rates.score) == {cuts.faces for cuts in planner.levels} == {4, 2, 1}
    assert all(seconds > 0 for seconds in planner.rates.score.values())
    branch = configuration.load("configs/xception_video_tiny.json")
    whole = Planner.of(3.0, build.build(branch), branch)  # it cannot see fewer, so faces stand on no rung
    assert whole.rates.score == {} and {cuts.faces for cuts in whole.levels} == {branch.frame_num}
    assert np.isnan(Bundle.blank(tiny_config).latency_vector).all()


def test_eval_says_what_a_budget_left_out(run: Path, talking, tmp_path):
    def details(*words: str) -> tuple[dict, str]:
        output = tmp_path / f"{len(words)}.csv"
        arguments = ["--input", str(talking_video), "--output", str(output), "--workers", "1"]
        assert evaluation.main([*arguments, "--checkpoint", str(run / "best.ckpt"), *words]) == 0
        return json.loads(output.with_name(f"{output.stem}.details.jsonl").read_text()), output.read_text()

    talking_video = next(talking.rglob("*.mp4"))
    plain, scores = details()
    roomy, same = details("--time-budget", "600")
    tight, _ = details("--time-budget", "0.001", "submit_batch_size=2")
    assert "budget" not in plain and scores == same
    assert (
        roomy["budget"] == {"seconds": 600.0, "faces": 4, "trust": 16, "stride": 1, "met": True} and not roomy["notes"]
    )
    assert tight["budget"] == {"seconds": 0.001, "faces": 1, "trust": 64, "stride": 5, "met": False}
    assert any(note.startswith("time budget: 1 of 4 faces") for note in tight["notes"])
    assert tight["status"] == "ok"


def test_a_budget_of_nothing_is_refused(capsys):
    with pytest.raises(SystemExit):
        evaluation.main(["--input", "x", "--output", "y", "--time-budget", "0"])
    assert "give seconds above 0" in capsys.readouterr().err
