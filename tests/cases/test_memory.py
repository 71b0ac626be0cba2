"""Memory that does not suffice: smaller batches, then the CPU, each said; and memory that must not fill up."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY

from tests.cases.cases import Case, held_by
from tests.cases.programs import started
from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.commands import crop, scoring, train
from visavox.faces import Detections, FaceDetector, HaarDetector
from visavox.files import find_inputs
from visavox.preprocessing import tools
from visavox.workers import gpu_server, memory

__all__ = ["started"]  # a fixture

DURABILITY = (pytest.mark.durability,)


@held_by(
    Case("R9", "memory does not suffice for a batch", "it is halved until it does", 3),
    Case("R9", "memory does not suffice for a single clip", "its row says OUT_OF_MEMORY, the others are scored", 0),
)
def test_a_batch_that_is_too_large(case: Case, make_bundle, tmp_path: Path):
    sizes = []

    class Small:
        device = torch.device("cpu")

        def score(self, bundles):
            sizes.append(len(bundles))
            if len(bundles) > max(1, case.given) or (not case.given and bundles[0].notes == "large"):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return np.full(len(bundles), 0.25)

    waiting = [
        scoring.Prepared(str(i), tmp_path, make_bundle(notes="large" if i == 2 else ""), "ok", "", [], {})
        for i in range(8)
    ]
    rows = list(scoring.score_batch(Small(), waiting, 0.5))
    if case.given:
        assert [row.status for row in rows] == ["ok"] * 8 and sizes == [8, 4, 2, 2, 4, 2, 2]
    else:
        assert [row.code for row in rows] == ["", "", "OUT_OF_MEMORY", "", "", "", "", ""]


class OnCard:
    """A scorer on a GPU that has room for two clips, and for none whose notes say large."""

    def __init__(self) -> None:
        self.device, self.sizes = torch.device("cuda"), []

    def to(self, device: torch.device) -> OnCard:
        self.device = device
        return self

    def score(self, bundles: list[Bundle]) -> np.ndarray:
        self.sizes.append((self.device.type, len(bundles)))
        if self.device.type == "cuda" and (len(bundles) > 2 or any(bundle.notes == "large" for bundle in bundles)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return np.full(len(bundles), 0.25)


@held_by(
    Case(
        "R9",
        "a GPU too small for a batch, and for one clip",
        "the batch is halved, the clip is scored on the CPU; both are said",
    )
)
def test_a_gpu_that_is_full(case: Case, make_bundle, tmp_path: Path, caplog):
    waiting = [
        scoring.Prepared(str(i), tmp_path, make_bundle(notes="large" if i == 2 else ""), "ok", "", [], {})
        for i in range(4)
    ]
    card = OnCard()
    with caplog.at_level(logging.WARNING):
        rows = list(scoring.score_batch(card, waiting, 0.5))
    assert [row.status for row in rows] == ["ok"] * 4 and [row.probability for row in rows] == [0.25] * 4
    assert card.sizes == [("cuda", 4), ("cuda", 2), ("cuda", 2), ("cuda", 1), ("cpu", 1), ("cuda", 1)]
    assert card.device.type == "cuda"
    said = "scored on the CPU: the memory of cuda did not suffice"
    assert [row.notes for row in rows] == [(), (), (said,), ()]
    assert "4 clips together failed, now in two parts: CUDA out of memory" in caplog.text and said in caplog.text


class FullDetector:
    """A face detector on a GPU that has room for so many frames, and on a CPU that has room for one, or for none."""

    name, landmark_source = "full", "none"

    def __init__(self, room: int, on_the_cpu: int = 1, inner: FaceDetector | None = None):
        self.device, self.room, self.inner = torch.device("cuda"), {"cuda": room, "cpu": on_the_cpu}, inner
        self.sizes: list[tuple[str, int]] = []

    def to(self, device: torch.device) -> FullDetector:
        self.device = device
        return self

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        self.sizes.append((self.device.type, len(frames)))
        if len(frames) > self.room[self.device.type]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.inner:
            return self.inner.detect(frames)
        return [
            Detections(np.full((1, 4), frame[0, 0, 0], np.float32), np.ones(1, np.float32), None) for frame in frames
        ]


@held_by(
    Case("R9", "a GPU too small for the frames of several videos", "they are halved until they fit; said", (2, 0)),
    Case("R9", "a GPU too small for one frame", "that frame's faces are searched on the CPU; said", (0, 1)),
    Case("R9", "neither GPU nor CPU has room for a frame", "the video fails with OUT_OF_MEMORY and what to do", (0, 0)),
)
def test_a_gpu_that_is_full_while_cropping(case: Case, caplog):
    frames = [np.full((8, 8, 3), i, np.uint8) for i in range(7)]
    full = FullDetector(*case.given)
    with gpu_server.serve(memory.FacesWithinMemory(full)) as address, caplog.at_level(logging.WARNING):
        client = gpu_server.Client(address)
        if case.given == (0, 0):
            with pytest.raises(gpu_server.ServerError, match="use fewer workers, or device=cpu") as caught:
                client.request("faces", frames)
            assert caught.value.code == "OUT_OF_MEMORY"
        else:
            found = client.request("faces", frames)
            assert [int(seen.boxes[0, 0]) for seen in found] == list(range(7))
            assert "7 frames together failed, now in two parts: CUDA out of memory" in caplog.text
            said = "faces of a frame of 8x8 are searched on the CPU: the memory of cuda did not suffice"
            assert caplog.text.count(said) == (7 if case.given == (0, 1) else 0)
    assert full.device.type == "cuda"  # another video may have room there
    assert [size for size in full.sizes if size[0] == "cpu"] == [("cpu", 1)] * (
        7 if case.given == (0, 1) else case.given == (0, 0)
    )


@held_by(
    Case(
        "R9",
        "a GPU that is full while a whole folder is cropped",
        "the bundles are those of a GPU with room, byte for byte",
    )
)
def test_a_folder_cropped_on_a_full_gpu(case: Case, talking: Path, tmp_path: Path, monkeypatch, caplog):
    """A parent that takes Haar on the CPU for a network on a GPU; the worker asks it as it would ask the network."""
    config = configuration.load("tiny", ["face_detector=retinaface_mobilenet0.25", "device=cpu", "max_clip_len=1"])
    haar = HaarDetector(max_size=config.face_max_size, threshold=config.face_threshold)
    inputs = dict(list(find_inputs(talking).items())[:1])
    monkeypatch.setattr(gpu_server, "has_gpu", lambda device: True)
    made = []
    for room in (100, 0):
        full = FullDetector(room, inner=haar)
        monkeypatch.setattr(tools, "build_faces", lambda config, device, full=full: memory.FacesWithinMemory(full))
        with caplog.at_level(logging.WARNING):
            (row,) = crop.crop_folder(inputs, tmp_path / str(room), config, workers=1, timeout=120)
        assert row.status == "ok", row
        made.append((tmp_path / str(room) / row.bundle).read_bytes())
        for said in (
            "searched on the CPU: the memory of cuda did not suffice",
            "frames together failed, now in two parts",
        ):
            assert (said in caplog.text) == (room == 0)
    assert made[0] == made[1]


class FullTowers:
    """SyncNet's towers on a GPU that has room for so many windows at once."""

    def __init__(self, room: int):
        self.device, self.batch, self.room = torch.device("cuda"), 64, room

    def to(self, device: torch.device) -> FullTowers:
        self.device = device
        return self

    def lips(self, crops: np.ndarray, stride: int) -> torch.Tensor:
        if self.device.type == "cuda" and self.batch > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.from_numpy(crops[::stride].copy())

    def voice(self, cepstra: np.ndarray) -> torch.Tensor:
        if self.device.type == "cuda" and not self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.from_numpy(cepstra)


@held_by(
    Case("R9", "a GPU too small for the windows of SyncNet", "fewer at once, and so from then on; said", 16),
    Case("R9", "a GPU too small for a window of SyncNet", "lips and voice are embedded on the CPU; said", 0),
)
def test_a_gpu_that_is_full_while_sync_is_measured(case: Case, caplog):
    crops, cepstra = np.arange(40), np.arange(9)
    full = FullTowers(case.given)
    with gpu_server.serve(None, memory.EmbedderWithinMemory(full)) as address, caplog.at_level(logging.WARNING):
        away = gpu_server.RemoteEmbedder(gpu_server.Client(address))
        assert away.lips(crops, 2).tolist() == list(range(0, 40, 2))
        assert away.voice(cepstra).tolist() == list(range(9))
    assert full.device.type == "cuda" and full.batch == (case.given or 1)
    assert f"now in batches of {full.batch} windows" in caplog.text
    for tower in ("lips", "voice"):
        said = f"the {tower} of a video are embedded on the CPU: the memory of cuda did not suffice"
        assert (said in caplog.text) == (not case.given)


def test_a_network_that_finds_its_gpu_full_on_the_way_back_stays_on_the_cpu(caplog):
    class Heavy:
        device = torch.device("cuda")

        def to(self, device: torch.device) -> Heavy:
            if device.type == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.device = device
            return self

    heavy = Heavy()
    with memory.on_cpu(heavy) as (slow, _):
        assert slow is heavy
    assert heavy.device.type == "cpu" and "stays there: cuda has no room" in caplog.text


@held_by(Case("R9", "memory does not suffice in training", "exit code 2; says what to halve"))
def test_a_training_that_does_not_fit(case: Case, monkeypatch, capsys):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train, "train", full)
    assert train.main([*TINY]) == 2
    assert "CUDA out of memory; halve train_batch_size and double accumulate" in capsys.readouterr().err


MEASURED = """
import json, sys, threading, time
from pathlib import Path
from visavox.commands import crop

def used(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))

def family():
    me = int(Path("/proc/self").readlink().name)
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    spawned = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return {"parent": me} | {f"worker {pid}": int(pid) for pid in spawned}

def watch():
    while not over.wait(0.2):
        lines = Path(sys.argv[1], "manifest.jsonl")
        done = lines.read_bytes().count(b"\\n") if lines.is_file() else 0
        for name, pid in family().items():
            try: print(json.dumps([done, name, *used(pid)]), flush=True)
            except (OSError, IndexError): pass

if __name__ == "__main__":
    over = threading.Event()
    (thread := threading.Thread(target=watch)).start()
    try: code = crop.main(sys.argv[2:])
    finally: over.set(); thread.join()
    sys.exit(code)
"""
"""A program that crops as `visavox crop` does and prints, five times a second: rows done, process, MiB, open files."""


@held_by(
    Case(
        "R10",
        "300 short videos through two workers",
        "memory and open files of workers and parent stay flat",
        300,
        DURABILITY,
    )
)
def test_memory_and_open_files_stay_flat(case: Case, talking: Path, tmp_path: Path, started):
    """The last two thirds of the run against its second sixth, after everything was met once."""
    videos = sorted(talking.rglob("*.mp4"))
    (tmp_path / "in").mkdir()
    for n in range(case.given):
        shutil.copy(videos[n % len(videos)], tmp_path / "in" / f"{n:03d}.mp4")
    (tmp_path / "measured.py").write_text(MEASURED)
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--workers", "2", *TINY]
    running = started(str(tmp_path / "measured.py"), str(tmp_path / "out"), *words)
    said, _ = running.communicate(timeout=570)
    assert running.returncode == 0, said[-2000:]
    assert len(list((tmp_path / "out").rglob("*.npz"))) == case.given
    samples = [json.loads(line) for line in said.splitlines() if re.match(r"\[\d", line)]
    names = sorted({name for _, name, *_ in samples})
    assert len(names) == 3, names  # two workers from beginning to end
    for name in names:
        early, late = (
            np.array([(mib, files) for done, who, mib, files in samples if who == name and low <= done < high])
            for low, high in ((case.given // 6, case.given // 3), (case.given // 3, case.given))
        )
        print(
            f"{name.split()[0]}: {early[:, 0].max():.0f} MiB, {early[:, 1].max():.0f} files up to video {case.given // 3}; "
            f"{late[:, 0].max():.0f} MiB, {late[:, 1].max():.0f} files up to video {case.given}"
        )
        assert late[:, 0].max() <= early[:, 0].max() + 20 and late[:, 1].max() <= early[:, 1].max()
