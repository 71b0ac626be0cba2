"""The benchmarks run, refuse what is unequal, and the straightforward pipeline computes what ours does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import bench, straightforward
from benchmarks.bench import Run
from visavox import config
from visavox.compute import dtype_of, has_bf16
from visavox.features import audio


def test_the_bench_reports_equal_pipelines(tmp_path: Path):
    threads = torch.get_num_threads()
    words = ["--quick", "--seconds", "0.8", "--heights", "96", "--repeats", "1", "--threads", "1"]
    assert bench.main([*words, "--output", str(tmp_path)]) == 0
    torch.set_num_threads(threads)
    report = json.loads((tmp_path / "results.json").read_text())
    assert {run["pipeline"] for run in report["runs"]} >= {"a", "b", "b640", "c32", "c"}
    assert all(value <= report["held"] for what, value in report["deviations"].items() if what.startswith("b"))
    assert report["held"] < 2e-3  # the two clips' logits are enlarged less than four hundred times
    table = (tmp_path / "results.md").read_text()
    assert "--seconds 0.8" in table and "| b640 |" in table
    assert (tmp_path / "results.png").stat().st_size > 5000


def test_outputs_that_differ_are_not_reported():
    def run(name: str, logit: float) -> Run:
        return Run(name, "clip", {}, {}, {"8": logit})

    assert bench.compare([run("a", 1.0), run("b", 1.0005)], "here") == {"b - a, here": pytest.approx(5e-4)}
    with pytest.raises(bench.Unequal, match="8 frames"):
        bench.compare([run("a", 1.0), run("b", 1.002)], "here")
    with pytest.raises(bench.Unequal):
        bench.compare([run("c32", 1.0), run("c", float("nan"))], "here")


@pytest.mark.parametrize("samples", [16000, 15963, 400])
def test_cepstra_frame_by_frame_are_ours(samples: int):
    sound = np.random.default_rng(0).integers(-9000, 9000, samples).astype(np.int16)
    np.testing.assert_allclose(straightforward.mfcc(sound).T, audio.mfcc(sound, 16000), atol=1e-4)


def test_bf16_is_never_taken_by_itself_in_cropping():
    assert config.Config().crop_precision == "fp32" and config.Config().score_precision == "auto"
    assert "crop_precision" in config.Config().prep() and "score_precision" not in config.Config().prep()
    assert dtype_of("bf16") is torch.bfloat16 and has_bf16(torch.device("cpu")) in (True, False)
