"""Names: what file names may be called, and what becomes of them on the disk, in tables and on a terminal."""

from __future__ import annotations

import csv
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY

from tests.cases.cases import Case, held_by
from visavox.commands import crop
from visavox.commands import evaluate as evaluation
from visavox.files import OBEYED, find_inputs
from visavox.preprocessing.manifest import bundle_names
from visavox.splits.text_table import for_people, read_text_table, table_for_people

ROW = "its row under that very name; the terminal shows it escaped"


@pytest.fixture(scope="module")
def clip(talking: Path) -> Path:
    return sorted(talking.rglob("*.mp4"))[0]


@pytest.fixture(scope="module")
def ready(clip: Path, tmp_path_factory) -> Path:
    """A bundle of the clip: scoring it takes no cropping."""
    output = tmp_path_factory.mktemp("ready")
    assert crop.main(["--input", str(clip), "--output", str(output), "--workers", "1", *TINY]) == 0
    return output / f"{clip.stem}.npz"


NAMES = (
    Case("N1", "clears the terminal", ROW, "\x1b[2J\x1b[Hclean.mp4"),
    Case("N1", "retitles the window", ROW, "\x1b]0;owned\x07.mp4"),
    Case("N1", "forges a row", ROW, "a\nok        forged.mp4"),
    Case("N1", "carriage return", ROW, "bad\rgood.mp4"),
    Case("N1", "turned round by an override", ROW, "clip\u202e4pm.mp4"),
    Case("N1", "C1 control characters", ROW, "a\x9b2Kb\x85.mp4"),
    Case("N1", "bytes that are no UTF-8", "named \\xNN in tables and on the disk", os.fsdecode(b"clip_\xff\xfe.mp4")),
    Case("N1", "begins with a dash", ROW, "-rf.mp4"),
    Case("N1", "backslashes and dots", ROW, "a\\..\\..\\clip.mp4"),
    Case("N1", "spaces and quotes", ROW, " a 'b' \"c\", d .mp4"),
    Case("N1", "255 bytes", ROW, "x" * 251 + ".mp4"),
    Case("N1", "255 bytes of Chinese", ROW, "顔" * 83 + "xx.mp4"),
    Case("N4", "formula for a spreadsheet", "the submission has the name as it is", "=cmd|' -C calc'!A0.mp4"),
    Case("N4", "at sign", "the submission has the name as it is", "@SUM(1+1)*cmd.mp4"),
    Case("N4", "no-break space in front", "the submission has the name as it is", "\u00a0=1+1.mp4"),
)


@pytest.fixture(scope="module")
def cropped(clip: Path, tmp_path_factory) -> tuple[Path, str]:
    """All names in one folder, two of them videos and the rest empty files; the output and what the terminal got."""
    folder, output = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    for i, case in enumerate(NAMES):
        if i < 3 or "255" in case.title or "UTF-8" in case.title:
            shutil.copy(clip, folder / case.given)
        else:
            (folder / case.given).write_bytes(b"")
    said = _output_of(crop.main, ["--input", str(folder), "--output", str(output), "--workers", "1", *TINY], expected=1)
    return output, said


def _output_of(main: Callable, words: list[str], expected: int) -> str:
    import contextlib
    import io

    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        assert main(words) == expected
    return stream.getvalue()


def exact(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@held_by(*NAMES)
def test_a_name_in_crop(case: Case, cropped: tuple[Path, str]):
    output, said = cropped
    rows = {row["input"]: row for row in map(json.loads, (output / "manifest.jsonl").read_text().splitlines())}
    assert len(rows) == len(NAMES)
    row = rows[exact(case.given)]
    if row["status"] == "ok":
        assert (output / row["bundle"]).is_file()
    else:
        assert row["code"] == "EMPTY_FILE" and "0 bytes" in row["reason"]
    assert not OBEYED.search(said.replace("\n", ""))
    lost = [line for line in said.splitlines() if line.startswith("  failed")]
    assert len(lost) == sum(row["status"] != "ok" for row in rows.values())
    assert not [line for line in said.splitlines() if line.startswith("ok ")]


SCORED = (
    Case("N1", "clears the terminal, scored", "CSV and JSON exact; terminal and page escaped", "\x1b[2Jclean.npz"),
    Case("N1", "forges a row, scored", "CSV and JSON exact; terminal and page escaped", "a\nb.npz,0.001"),
    Case("N1", "markup, scored", "CSV and JSON exact; the page shows it as text", "<img src=x onerror=alert(1)>.npz"),
    Case("N1", "turned round, scored", "CSV and JSON exact; terminal and page escaped", "\u202ezpn.npz"),
    Case("N1", "a formula of matplotlib, scored", "CSV and JSON exact; the figure shows it as text", "$\\frac{a$.npz"),
    Case(
        "N4", "formula, scored", "CSV and JSON exact; the report's table has an apostrophe before", "=HYPERLINK(1).npz"
    ),
)


@pytest.fixture(scope="module")
def scored(ready: Path, run: Path, tmp_path_factory) -> tuple[Path, str]:
    """Bundles under odd names, scored with a report; half of them labelled real."""
    folder, output = tmp_path_factory.mktemp("named"), tmp_path_factory.mktemp("scores")
    for case in SCORED:
        shutil.copy(ready, (folder / case.given).with_name(_suffixed(case.given)))
    with (output / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "label", "method"])
        writer.writerows([_suffixed(c.given), i % 2, f"{c.given} ${i}"] for i, c in enumerate(SCORED))
    words = ["-input", str(folder), "-output", str(output / "s.csv"), "--checkpoint", str(run / "best.ckpt")]
    words += ["--labels", str(output / "labels.csv"), "--report", str(output / "report")]
    return output, _output_of(evaluation.main, words, expected=0)


def _suffixed(name: str) -> str:
    return name if name.endswith(".npz") else f"{name}.npz"


@held_by(*SCORED)
def test_a_name_in_eval_and_its_report(case: Case, scored: tuple[Path, str]):
    output, said = scored
    name = _suffixed(case.given)
    with (output / "s.csv").open(newline="", encoding="utf-8") as file:
        assert name in [row["filename"] for row in csv.DictReader(file)]
    assert name in [json.loads(line)["filename"] for line in (output / "s.details.jsonl").read_text().splitlines()]
    with (output / "report/scores.csv").open(newline="", encoding="utf-8") as file:
        assert for_people(name) in [row["filename"] for row in csv.DictReader(file)]
    page = (output / "report/report.html").read_text(encoding="utf-8")
    assert not OBEYED.search(said.replace("\n", "")) and not OBEYED.search(page.replace("\n", ""))
    assert "<img src=x" not in page


def twins(folder: Path) -> list[str]:
    names = [unicodedata.normalize(form, "é.mp4") for form in ("NFC", "NFD")]
    return _touch(folder, *names)


def _touch(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return list(names)


@held_by(
    Case("N1", "composed and decomposed twins", "two inputs, two bundles", twins),
    Case("N3", "equal stems in two folders", "each its own bundle", lambda f: _touch(f, "a/x.mp4", "b/x.mp4")),
    Case("N3", "equal stems, other endings", "the ending stays in the name", lambda f: _touch(f, "x.mp4", "x.mov")),
    Case(
        "N3",
        "an ending in the stem",
        "each its own bundle",
        lambda f: _touch(f, "x.mp4", "x.mov", "x.mp4.avi"),
    ),
    Case("N3", "equal stems in another case", "each its own bundle", lambda f: _touch(f, "X.mp4", "x.MP4")),
)
def test_names_that_are_nearly_equal(case: Case, tmp_path: Path):
    names = case.given(tmp_path)
    inputs = find_inputs(tmp_path)
    assert sorted(inputs) == sorted(names)
    assert all(path.read_bytes().decode() == name for name, path in inputs.items())
    assert len(set(bundle_names(inputs))) == len(names)


def link_out(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.mp4").write_bytes(b"secret")
    (folder / "link").symlink_to(outside)


def link_to_itself(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / "self.mp4").symlink_to(folder / "self.mp4")


@held_by(
    Case("N2", "link to a folder elsewhere", "not followed", (link_out, [])),
    Case("N2", "link to itself", "a folder is not followed, a file fails with its row", (link_to_itself, ["self.mp4"])),
    Case("N2", "named pipe", "fails with its row", (lambda f: os.mkfifo(f / "pipe.mp4"), ["pipe.mp4"])),
    Case("N2", "folder named like a video", "looked into, no input itself", (lambda f: (f / "d.mp4").mkdir(), [])),
    Case(
        "N2",
        "link to a device",
        "fails with its row",
        (lambda f: (f / "zero.mp4").symlink_to("/dev/zero"), ["zero.mp4"]),
    ),
    Case("N2", "dangling link", "fails with its row", (lambda f: (f / "gone.mp4").symlink_to("nowhere"), ["gone.mp4"])),
)
def test_what_is_no_file(case: Case, tmp_path: Path):
    from visavox.media import MediaError, open_video

    make, expected = case.given
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"x")
    make(folder)
    inputs = find_inputs(folder)
    assert sorted(inputs) == sorted(["a.mp4", *expected])
    for name in expected:
        with pytest.raises(MediaError), open_video(inputs[name]):
            pass


FORMULAS = ("=1+1.mp4", "+cmd.mp4", "-2+3.mp4", "@SUM(1).mp4", "\u00a0=1.mp4", "\uff1d1.mp4", "'=1.mp4", "''@x.mp4")


@held_by(
    Case("N4", "formulas in the tables of a report", "an apostrophe before each; read back as they were", FORMULAS),
    Case(
        "N4",
        "names that are no formula",
        "in tables for people as everywhere",
        ("a=b.mp4", "-0.5", "'a'.mp4", "x-1.mp4"),
    ),
)
def test_tables_for_people(case: Case, tmp_path: Path):
    names = list(case.given)
    table = pd.DataFrame({"filename": names, "probability": -0.25, "=sum": names})
    table_for_people(table).to_csv(tmp_path / "scores.csv", index=False)
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    escaped = case.given is FORMULAS
    assert [row["filename"] for row in rows] == [f"'{name}" if escaped else name for name in names]
    assert {row["probability"] for row in rows} == {"-0.25"} and "'=sum" in rows[0]
    again = read_text_table(tmp_path / "scores.csv", ("filename",))
    assert list(again["filename"]) == list(again["=sum"]) == names
