"""A line of a table names a file in many ways, and never the wrong one."""

import time

import numpy as np
import pytest

from visavox.splits.names import match

NFC, NFD = "caf\u00e9", "cafe\u0301"


def matched(files: list[str], names: list[str]) -> dict[str, str]:
    """File -> the name of its line."""
    return {file: names[j] for file, j in zip(files, match(files, names).lines) if j >= 0}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/b.mp4", "a/b.mp4"),
        ("a/b.npz", "a/b.mp4"),
        ("a/b.mp4.npz", "a/b.mp4"),
        ("a/b.npz", "/data/bundles/a/b.npz"),
        ("a/b.mp4", "b.mp4"),
        ("b.mp4", "a/b.mp4"),
        ("a/b.mp4", "C:\\data\\a\\b.mp4"),
        ("a/b.mp4", "./a//b.mp4"),
        ("a/b.mp4", "../a/b.mp4"),
        ("a/b.mp4", "a/b"),
        ("a/b.mp4", "A/B.MP4"),
        ("a/b.MOV", "b.mov"),
        (f"a/{NFD}.mp4", f"a/{NFC}.mp4"),
        (f"a/{NFC}.npz", f"b/a/{NFD}.mp4"),
        ("a/b.v2.mp4", "b.v2"),
        ("a\\b.mp4", "a\\b.mp4"),
    ],
)
def test_one_file_written_in_many_ways(file: str, name: str):
    others = ["a/other.mp4", "x.mp4"]
    assert matched([*others, file], [*others, name])[file] == name


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["b/a.mp4"], ["real/a.mp4"]),  # another folder
        (["a.mp4"], ["ba.mp4"]),
        (["x/a.mp4"], ["y/x/b/a.mp4"]),
        (["a.avi"], ["a.mp4"]),  # another video of this name
        (["a.npz"], ["a.mp4", "a.avi"]),  # of which of the two?
        (["a.mp4"], ["real/a.mp4", "fake/a.mp4"]),
        (["x/a.mp4"], ["a.mp4", "y/x/a.mp4"]),
        (["x/a.mp4", "y/a.mp4"], ["a.mp4"]),
        (["x/a.npz", "y/a.mp4"], ["a"]),
        (["x/a.mp4", "X/A.MP4"], ["x/A.mp4"]),
        (["a.mp4"], ["a.mp4", "a.mp4", "x/a.mp4"]),
    ],
)
def test_a_file_in_doubt_has_no_line(files: list[str], names: list[str]):
    assert matched(files, names) == {}


def test_a_line_is_that_of_one_file_and_doubt_is_said():
    files = ["a.mp4", "sub/a.mp4", "b.mp4", "c.mp4"]
    found = match(files, ["a.mp4", "x/b.mp4", "y/b.mp4"])
    assert found.lines.tolist() == [0, -1, -1, -1]
    assert found.several.tolist() == [False, True, True, False]


def test_names_in_two_unicode_forms_stay_two_files():
    files = [f"{NFC}.mp4", f"{NFD}.mp4"]
    assert matched(files, files) == dict(zip(files, files))
    assert matched(files, files[:1]) == {files[0]: files[0]}


def drawn(rng: np.random.Generator) -> str:
    folders = "/".join(rng.choice(["a", "b"], rng.integers(1, 4)))
    return folders + str(rng.choice([".mp4", ".avi", ".npz", ""]))


def test_whatever_the_names_a_match_is_one_to_one_and_between_paths_that_end_alike():
    rng = np.random.default_rng(0)
    for _ in range(400):
        files, names = ([drawn(rng) for _ in range(6)] for _ in range(2))
        files = list(dict.fromkeys(files))
        lines = match(files, names).lines
        given = lines[lines >= 0]
        assert len(set(given.tolist())) == len(given)
        for file, j in zip(files, lines):
            if j < 0:
                continue
            (file_stem, file_kind), (stem, kind) = (
                (text.rpartition(".")[0], text.rpartition(".")[2]) if "." in text else (text, "")
                for text in (file, names[j])
            )
            assert kind == file_kind or {kind, file_kind} & {"npz", ""}
            assert f"/{file_stem}".endswith(f"/{stem}") or f"/{stem}".endswith(f"/{file_stem}")


def test_many_equal_names_take_no_longer():
    names = ["video.mp4"] * 30_000 + [f"x{i}/video.mp4" for i in range(30_000)]
    files = [f"y{i}/video.mp4" for i in range(30_000)] + ["video.npz"]
    start = time.process_time()
    found = match(files, names)
    assert (found.lines == -1).all() and found.several[-1]
    assert time.process_time() - start < 5
