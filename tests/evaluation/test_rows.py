"""Rows of details files and manifests: what is written is read back, and what earlier versions wrote is read too."""

import json
from pathlib import Path

import pytest

from visavox.evaluation.rows import Identity, ScoredRow, read_details
from visavox.evaluation.submission import Details, fingerprint
from visavox.preprocessing.manifest import Manifest, ManifestRow

IDENTITY = Identity("abc", "0123", "none", {"name": "timesformer", "lr": "a:b"}, 2.5)


def test_a_row_is_read_back_as_it_was_written():
    rows = [
        ScoredRow(
            "a/b.mp4",
            0.25,
            "ok",
            notes=("note",),
            seconds={"total": 1.5},
            file=(10, 20),
            raw=0.125,
            budget={"faces": 4},
            identity=IDENTITY,
        ),
        ScoredRow("c.mp4", 0.5, "failed", "why", identity=Identity("abc", "0123", "none")),
    ]
    for row in rows:
        assert ScoredRow.from_json(json.loads(json.dumps(row.to_json()))) == row
    assert list(rows[1].to_json()) == [
        "filename",
        "probability",
        "status",
        "reason",
        "code",
        "notes",
        "seconds",
        "file",
        "identity",
    ]
    assert [row.scored for row in rows] == [True, False]


def test_an_identity_has_names_and_the_joined_text_of_earlier_versions_is_understood():
    assert (
        Identity.from_json(json.loads(json.dumps(ScoredRow("a", 0, "ok", identity=IDENTITY).to_json()["identity"])))
        == IDENTITY
    )
    text = 'abc:0123:none:{"name": "timesformer", "lr": "a:b"}:2.5'
    assert Identity.from_json(text) == IDENTITY
    assert Identity.from_json(text.replace(":2.5", ":None")).time_budget is None
    for wrong in ("abc", 7, "a:b:c:{:None", {"checkpoint": "abc"}):
        with pytest.raises(ValueError, match="not an identity|missing"):
            Identity.from_json(wrong)


def test_a_killed_run_continues_only_with_the_same_scorer_and_the_same_file(tmp_path: Path):
    video = tmp_path / "a.mp4"
    video.write_bytes(b"1234")
    first = Details(tmp_path / "s.csv", identity=IDENTITY, keep=True)
    row = first.append(ScoredRow("a.mp4", 0.25, "ok", file=fingerprint(video)))
    with first.part.open("a") as file:
        file.write('{"filename": "b.mp4", "proba')  # killed here
    inputs = {"a.mp4": video, "b.mp4": video}
    assert Details(tmp_path / "s.csv", identity=IDENTITY, keep=True).earlier(inputs) == {"a.mp4": row}
    again = Details(tmp_path / "s.csv", identity=IDENTITY, keep=True)
    assert again.earlier(inputs) == {"a.mp4": row}, "the torn line is gone, the whole one has stayed"
    other = Details(tmp_path / "s.csv", identity=Identity("other", "0123", "none"), keep=True)
    assert other.earlier(inputs) == {}
    again.append(row)
    video.write_bytes(b"12345")
    assert again.earlier(inputs) == {}
    again.close([row])
    assert list(read_details(tmp_path / "s.csv")) == [row] and not again.part.exists()


def test_a_line_that_is_no_row_is_named(tmp_path: Path):
    (tmp_path / "s.details.jsonl").write_text(
        '{"filename": "a", "probability": 0.5, "status": "ok"}\n{"filename": "b"}\n'
    )
    with pytest.raises(ValueError, match=r"s.details.jsonl:2: not a row .*probability"):
        list(read_details(tmp_path / "s.csv"))


def test_a_manifest_keeps_its_keys_and_reads_what_was_written_before(tmp_path: Path):
    made = ManifestRow(
        "a.mp4",
        "ok",
        bundle="a.npz",
        prep_hash="0123",
        source_sha256="ff",
        notes=("n",),
        frames=50,
        seconds={"total": 1.0},
    )
    kept = ManifestRow(
        "b.mp4", "no_audio", bundle="b.npz", prep_hash="0123", source_sha256="ff", kept=True, seconds={"total": 0.1}
    )
    lost = ManifestRow("c.mp4", "failed", "why", "CORRUPT_CONTAINER", prep_hash="0123")
    common = ["input", "status", "reason", "code", "bundle", "prep_hash", "source_sha256"]
    assert list(made.to_json()) == [*common, "notes", "frames", "frames_read", "seconds"]
    assert list(kept.to_json()) == [*common, "kept", "seconds"] and list(lost.to_json()) == [*common, "seconds"]
    Manifest(tmp_path / "m.jsonl").rewrite([made, kept, lost])
    with (tmp_path / "m.jsonl").open("a") as file:
        file.write(
            '{"input": "d.mp4", "status": "failed", "reason": "", "bundle": null, "prep_hash": "", "later": 1}\n'
        )
        file.write('{"bundle": "e.npz"}\n[1]\n{"inp')
    rows = Manifest(tmp_path / "m.jsonl").rows
    assert list(rows) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert [rows[name] for name in ("a.mp4", "b.mp4", "c.mp4")] == [made, kept, lost]
