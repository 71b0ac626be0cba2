"""Commands that write: one at a time on an output, and stopped in the midst of writing they leave nothing that is half there."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY

from tests.cases.cases import Case, held_by
from tests.cases.programs import Holder, half_written, started
from visavox import __main__ as front_door
from visavox import files, runs

__all__ = ["started"]  # a fixture


def write_scores(folder: Path) -> list[Path]:
    """Scores of two detectors on 80 clips of 40 people, and a split CSV with their labels: val and test."""
    rng = np.random.default_rng(0)
    rows = [(f"{i}.mp4", i % 2, f"id{i // 2}", ("val", "test")[i // 2 % 2]) for i in range(80)]
    paths = [folder / "a.csv", folder / "b.csv", folder / "split.csv"]
    for path in paths[:2]:
        path.write_text(
            "filename,probability\n" + "".join(f"{name},{rng.uniform(0, 0.6) + 0.4 * y}\n" for name, y, *_ in rows)
        )
    paths[2].write_text("filename,label,identity,split\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))
    return paths


def write_utterances(folder: Path) -> Path:
    """Noise in ASVspoof 2019's layout."""
    rng = np.random.default_rng(0)
    for end, part in (("train.trn", "train"), ("dev.trl", "dev"), ("eval.trl", "eval")):
        place = folder / f"LA/ASVspoof2019_LA_{part}/flac"
        place.mkdir(parents=True)
        lines = []
        for i in range(4):
            soundfile.write(place / f"{part}{i}.flac", rng.integers(-999, 999, 12000).astype(np.int16), 16000)
            lines.append(f"LA_00{i} {part}{i} - {'A01 spoof' if i % 2 else '- bonafide'}\n")
        protocol = folder / f"LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.{end}.txt"
        protocol.parent.mkdir(exist_ok=True)
        protocol.write_text("".join(lines))
    return folder / "LA"


def features(folder: Path, data: Path) -> tuple[list[str], Path]:
    backbones = ["--video-backbone", "efficientface_tiny", "--audio-backbone", "MFCC", "--weights", "random"]
    output = folder / "out"
    return ["features", *backbones, *TINY, "--input", str(data / "data/bundles"), "--output", str(output)], output


def fuse(folder: Path, data: Path) -> tuple[list[str], Path]:
    a, b, labels = write_scores(folder)
    output = folder / "fusion.json"
    return ["fuse", f"--score=a={a}", f"--score=b={b}", "--labels", str(labels), "--output", str(output)], output


def fuse_pair(folder: Path, data: Path) -> tuple[list[str], Path]:
    output = folder / "pair.ckpt"
    return ["fuse", "--video", "v.ckpt", "--audio", "a.ckpt", "--output", str(output)], output


def pretrain(folder: Path, data: Path) -> tuple[list[str], Path]:
    output = folder / "audio.pth"
    words = ["--root", str(write_utterances(folder)), "--config", "fiveway_tiny", "--epochs", "1"]
    return ["pretrain-audio", *words, "--output", str(output)], output


def probes(folder: Path, data: Path) -> tuple[list[str], Path]:
    words = ["--config", "td3mf_tiny", "--data-version", "split", "--allow-leaks", f"root_path={data}", "device=cpu"]
    return ["probes", *words, f"runs_path={folder}"], folder / "probes"


def search(folder: Path, data: Path) -> tuple[list[str], Path]:
    pytest.importorskip("optuna")
    (folder / "space.json").write_text('{"lr": [0.001, 0.002]}')
    words = ["--space", str(folder / "space.json"), "--data-version", "split", "--study", str(folder / "study")]
    return ["search", *words, *TINY, f"root_path={data}", "device=cpu"], folder / "study"


def report(folder: Path, data: Path) -> tuple[list[str], Path]:
    scores, _, labels = write_scores(folder)
    output = folder / "report"
    words = ["--labels", str(labels), "--output", str(output), "--resamples", "50"]
    return ["report", "make", str(scores), *words], output


def calibrate(folder: Path, data: Path) -> tuple[list[str], Path]:
    scores, _, labels = write_scores(folder)
    output = folder / "calibration.json"
    return ["calibrate", str(scores), "--labels", str(labels), "--output", str(output)], output


def audit(folder: Path, data: Path) -> tuple[list[str], Path]:
    output = folder / "audit.json"
    words = ["--root", str(data), "--no-probes", "--output", str(output)]
    return ["audit", str(data / "data/split.csv"), *words], output


def corpora(folder: Path, data: Path) -> tuple[list[str], Path]:
    output = folder / "split.csv"
    return ["corpora", "folder", "--root", str(data / "data/bundles"), "--output", str(output), "--by", "file"], output


def synthetic(folder: Path, data: Path) -> tuple[list[str], Path]:
    output = folder / "faces"
    words = ["--identities", "1", "--clips", "1", "--seconds", "0.4", "0.4", "--workers", "1", "--output", str(output)]
    return ["synthetic", *words], output


def ffpp_audio(folder: Path, data: Path) -> tuple[list[str], Path]:
    (folder / "ff").mkdir()
    (folder / "ff/conversion_dict.json").write_text(json.dumps({"000": "abc 0"}))
    return ["ffpp-audio", "--root", str(folder / "ff"), "--output", str(folder / "out")], folder / "out"


ONE_AT_A_TIME = "the second ends with exit code 4 and says who holds it"


@held_by(
    Case("R4", "two of visavox features on one output", ONE_AT_A_TIME, features),
    Case("R4", "two of visavox fuse on one output", ONE_AT_A_TIME, fuse),
    Case("R4", "two of visavox fuse --video on one output", ONE_AT_A_TIME, fuse_pair),
    Case("R4", "two of visavox pretrain-audio on one output", ONE_AT_A_TIME, pretrain),
    Case("R4", "two of visavox probes of one name", ONE_AT_A_TIME, probes),
    Case("R4", "two of visavox report on one output", ONE_AT_A_TIME, report),
    Case("R4", "two of visavox synthetic on one output", ONE_AT_A_TIME, synthetic),
    Case("R4", "two of visavox ffpp-audio on one output", ONE_AT_A_TIME, ffpp_audio),
)
def test_two_commands_on_one_output(case: Case, data: Path, tmp_path: Path, started, capsys):
    words, output = case.given(tmp_path, data)
    if not output.suffix:
        output.mkdir()
    holder = Holder(started, output).process
    assert front_door.main(words) == 4
    assert f"{output}: locked by pid {holder.pid} on " in capsys.readouterr().err
    assert not output.is_file() and not [path for path in output.rglob("*") if path.name != runs.LOCK]


STOPPED = "exit code 143, or 130 after Ctrl-C; no half file, no lock"


@held_by(
    Case("R7", "visavox features is stopped while it writes", STOPPED, features),
    Case("R7", "visavox fuse is stopped while it writes", STOPPED, fuse),
    Case("R7", "visavox pretrain-audio is stopped while it writes", STOPPED, pretrain),
    Case("R7", "visavox probes is stopped while it writes", STOPPED, probes),
    Case("R7", "visavox search is stopped while it writes", STOPPED, search),
    Case("R7", "visavox report is stopped while it writes", STOPPED, report),
    Case("R7", "visavox calibrate is stopped while it writes", STOPPED, calibrate),
    Case("R7", "visavox audit is stopped while it writes", STOPPED, audit),
    Case("R7", "visavox corpora is stopped while it writes", STOPPED, corpora),
    Case("R7", "visavox synthetic is stopped while it writes", STOPPED, synthetic),
)
def test_a_command_is_stopped_while_it_writes(case: Case, data: Path, tmp_path: Path, monkeypatch, capsys):
    """The signal comes when the first file is written whole, beside its place."""
    words, output = case.given(tmp_path, data)
    to_disk: Callable[[Path], None] = files.to_disk
    seen: list[Path] = []
    coming = [signal.SIGINT, signal.SIGTERM]

    def stopping(path: Path) -> None:
        to_disk(path)
        if ".part" in path.name and not seen:
            seen.append(path)
            os.kill(os.getpid(), coming.pop())

    monkeypatch.setattr(files, "to_disk", stopping)
    for code in (143, 130):
        seen.clear()
        before = signal.getsignal(signal.SIGTERM)
        assert front_door.main(words) == code
        assert signal.getsignal(signal.SIGTERM) is before
        said = capsys.readouterr().err
        assert "interrupted" in said and "Traceback" not in said
        assert len(seen) == 1 and not seen[0].exists()
        assert not half_written(tmp_path) and not output.is_file()
