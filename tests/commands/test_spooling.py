"""Bundles that come from actors through a folder: what is handed over is what was made, or says why there is none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from visavox.bundle import Bundle
from visavox.commands.spooling import spooled
from visavox.commands.streaming import Prepared

JOB = ("a b/é.mp4", Path("/videos/a b/é.mp4"))


def prepared(**changes: object) -> Prepared:
    return Prepared(*JOB, None, "ok", "", ["a note"], {"total": 1.0})._replace(**changes)


def handed_over(folder: Path, made: Prepared) -> tuple[Prepared, Prepared]:
    """What travels as a row, and what comes out."""
    with spooled(folder) as spooling:
        assert spooling is not None
        row = spooling.into(lambda state, task: made)(None, JOB)
        found = spooling.out_of(row)
        assert not list(folder.iterdir())
    return row, found


def test_bundle_and_sound_are_what_was_made(make_bundle: Callable[..., Bundle], tmp_path: Path):
    bundle = make_bundle()
    row, found = handed_over(tmp_path / "spool", prepared(bundle=bundle))
    assert row.bundle is None and found.bundle is not None
    np.testing.assert_array_equal(found.bundle.faces, bundle.faces)
    np.testing.assert_array_equal(found.bundle.audio, bundle.audio)
    assert found._replace(bundle=None) == prepared()

    sound = np.arange(99, dtype=np.int16)
    faceless = prepared(status="no_face", reason="no face", code="NO_FACE", sound=sound)
    row, found = handed_over(tmp_path / "spool", faceless)
    assert row.sound is None
    np.testing.assert_array_equal(found.sound, sound)
    assert found._replace(sound=None) == faceless._replace(sound=None)
    assert not (tmp_path / "spool").exists()


def test_a_row_without_files_stays_as_it_is(tmp_path: Path):
    lost = prepared(status="failed", reason="no video", code="NOT_A_VIDEO")
    assert handed_over(tmp_path / "spool", lost) == (lost, lost)


def test_what_was_not_handed_over_says_where_it_was_to_be(make_bundle: Callable[..., Bundle], tmp_path: Path):
    """As where the machines do not share the folder, and where what is made is no bundle."""
    with spooled(tmp_path / "spool") as spooling:
        found = spooling.out_of(prepared())
    assert found.status == "failed" and "storage that all machines share" in found.reason
    damaged = make_bundle(mdist=np.full(3, np.nan, np.float32))
    row, found = handed_over(tmp_path / "spool", prepared(bundle=damaged))
    assert row == found and row.status == "failed" and row.code == "BAD_BUNDLE" and row.bundle is None


def test_what_a_killed_run_left_is_removed(tmp_path: Path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool/old.npz").touch()
    with spooled(tmp_path / "spool"):
        assert not list((tmp_path / "spool").iterdir())
    with spooled(None) as spooling:
        assert spooling is None
