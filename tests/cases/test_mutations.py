"""Tables, configurations and checkpoints, changed in hundreds of seeded ways: each is read, or refused with a cure."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import visavox
from tests.cases.cases import Case, held_by
from tests.cases.mutations import changed_checkpoint, changed_json, changed_table
from visavox import config as configuration
from visavox.config import ConfigError
from visavox.detectors import build
from visavox.errors import code_of
from visavox.evaluation.scores import ScoresError, join
from visavox.splits.table import SplitError, read_split
from visavox.training import checkpoint
from visavox.weights import WeightsError

DURABILITY = (pytest.mark.durability,)
LONGEST = 20.0
"""Seconds that a single file may take, on a busy machine."""
CHECKPOINTS = ("tiny", "anomaly_tiny", "td3mf_tiny", "fiveway_tiny", "xception_video_tiny", "xception_audio_tiny")

NAMES = [f"{folder}/{i}.mp4" for i in range(6) for folder in ("real", "fake")]
LABELS = "filename,label,split,identity\n" + "".join(
    f"{name},{int('fake' in name)},{'val' if i % 4 < 2 else 'test'},id{i // 2}\n" for i, name in enumerate(NAMES)
)
SCORES = "filename,probability\n" + "".join(f"{name},0.{i % 10}\n" for i, name in enumerate(NAMES))
SPLIT = "filename,filepath,split,label,identity\n" + "".join(
    f"{name},{name[:-4]}.npz,{('train', 'val', 'test')[i // 2 % 3]},{int('fake' in name)},id{i // 2}\n"
    for i, name in enumerate(NAMES)
)

Change = Callable[[Path, np.random.Generator], None]
Read = Callable[[Path], object]


def rewritten(change: Callable[[bytes, np.random.Generator], bytes], *contents: bytes) -> Change:
    """What writes one of the contents, changed."""
    return lambda path, rng: path.write_bytes(change(contents[int(rng.integers(len(contents)))], rng))


def labels(folder: Path) -> tuple[Change, Read]:
    (folder / "scores.csv").write_text(SCORES)
    return rewritten(changed_table, LABELS.encode()), lambda path: join(folder / "scores.csv", path)


def scores(folder: Path) -> tuple[Change, Read]:
    (folder / "labels.csv").write_text(LABELS)
    return rewritten(changed_table, SCORES.encode()), lambda path: join(path, folder / "labels.csv")


def split(folder: Path) -> tuple[Change, Read]:
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name[:-4]}.npz").touch()
    return rewritten(changed_table, SPLIT.encode()), lambda path: read_split(path, folder)


def config(folder: Path) -> tuple[Change, Read]:
    shipped = [path.read_bytes() for path in configuration.shipped().values()]
    return rewritten(changed_json, *shipped), configuration.load


def checkpoints(folder: Path) -> tuple[Change, Read]:
    for name in CHECKPOINTS:
        network = build.trainable(configuration.load(name, ["device=cpu"]))
        checkpoint.write(folder / f"{name}.ckpt", network.config, network.state_dict(), {"trained_on": "nothing"})

    def change(path: Path, rng: np.random.Generator) -> None:
        changed_checkpoint(folder / f"{CHECKPOINTS[int(rng.integers(len(CHECKPOINTS)))]}.ckpt", path, rng)

    return change, visavox.load


def outcomes(path: Path, change: Change, read: Read, refused: tuple[type[Exception], ...], seeds: range) -> list[str]:
    """`read`, or the code of the refusal, for each seed; any other exception ends the test with its seed."""
    found = []
    for seed in seeds:
        change(path, np.random.default_rng(seed))
        began = time.monotonic()
        try:
            read(path)
            found.append("read")
        except refused as error:
            assert path.name in str(error) and len(str(error)) < 20_000, f"seed {seed}: {error}"
            found.append(code_of(error))
        except Exception as error:
            raise AssertionError(f"seed {seed} of {path.name} ends with {type(error).__name__}") from error
        assert time.monotonic() - began < LONGEST, f"seed {seed} of {path.name}"
    return found


REFUSED = "read, or refused with the name of the file and a code that has its cure"


@held_by(
    Case("T20", "200 seeded changes of labels", REFUSED, (labels, "l.csv", ScoresError, "BAD_TABLE", 200)),
    Case("T20", "200 seeded changes of scores", REFUSED, (scores, "s.csv", ScoresError, "BAD_TABLE", 200)),
    Case("T20", "200 seeded changes of a split", REFUSED, (split, "t.csv", SplitError, "BAD_TABLE", 200)),
    Case("S4", "200 seeded changes of a configuration", REFUSED, (config, "c.json", ConfigError, "BAD_CONFIG", 200)),
)
def test_changed_texts(case: Case, tmp_path: Path):
    make, name, error, code, count = case.given
    change, read = make(tmp_path)
    found = outcomes(tmp_path / name, change, read, (error,), range(count))
    assert set(found) == {"read", code}
    print(f"{case.title}: {found.count('read')} read, {found.count(code)} refused")


@pytest.mark.usefixtures("one_thread")
@held_by(
    Case("S4", "20 seeded changes of checkpoints", REFUSED, 20),
    Case("S4", "200 seeded changes of checkpoints", REFUSED, 200, DURABILITY),
)
def test_changed_checkpoints(case: Case, tmp_path: Path):
    change, read = checkpoints(tmp_path)
    found = outcomes(tmp_path / "odd.ckpt", change, read, (WeightsError, ConfigError), range(case.given))
    assert set(found) == {"read", "BAD_WEIGHTS", "BAD_CONFIG"}
    print(f"{case.title}: { ({what: found.count(what) for what in sorted(set(found))}) }")


@held_by(
    Case(
        "S4",
        "a checkpoint whose config asks for a network of 64 GB",
        "refused before it is built",
        ("detector", {"embed_dims": 64000}),
    ),
    Case(
        "S4",
        "a checkpoint whose config asks for a million layers",
        "refused before they are built",
        ("detector", {"num_layers": 10**6}),
    ),
    Case("S4", "a checkpoint whose config is a list", "refused", ("config", [])),
    Case("S4", "a checkpoint whose parameters are a list", "refused", ("state_dict", [])),
    Case("S4", "a checkpoint that says nothing in words of itself but a number", "refused", ("about", 1)),
)
def test_a_checkpoint_that_is_none(case: Case, tmp_path: Path):
    network = build.trainable(configuration.load("tiny", ["device=cpu"]))
    place, value = case.given
    held = {"config": network.config.model_dump(mode="json"), "about": {}}
    content = {"hyper_parameters": held, "state_dict": network.state_dict()}
    if place == "detector":
        held["config"]["detector"] |= value
    else:
        (content if place == "state_dict" else held)[place] = value
    torch.save(content, tmp_path / "odd.ckpt")
    began = time.process_time()
    with pytest.raises((WeightsError, ConfigError), match=r"odd\.ckpt: .*(train it again|expected an object)"):
        visavox.load(tmp_path / "odd.ckpt")
    assert time.process_time() - began < 5


def test_numbers_and_nesting_that_python_does_not_read(tmp_path: Path):
    for text in (f'{{"lr": {"9" * 5000}}}', f'{{"lr": {"[" * 5000}', "\0", ""):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ConfigError, match=r"c\.json: not valid JSON: .*; correct it there"):
            configuration.load(tmp_path / "c.json")
    with pytest.raises(ConfigError, match=r"lr: .*found '9{39}\.\.\.9+' \(5002 characters\)"):
        configuration.load("tiny", [f"lr={'9' * 5000}"])
