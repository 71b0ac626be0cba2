"""visavox fakes: a set on the disk that can be looked at, audited and evaluated; the same command writes the same bytes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from visavox.audit.measures import audit_split
from visavox.bundle import Bundle
from visavox.commands import fakes
from visavox.pseudofakes.journal import Journal
from visavox.splits.table import SplitError, read_split

pytestmark = pytest.mark.usefixtures("one_thread")
CLIPS = 6


@pytest.fixture(scope="module")
def split(data: Path, tmp_path_factory) -> Path:
    """A split CSV of the real clips of `data`, two of each person."""
    root = tmp_path_factory.mktemp("split")
    lines = ["filename,filepath,split,label,source"]
    found = sorted((data / "data/bundles/real").rglob("*.npz"))
    for index in range(CLIPS):
        bundle = Bundle.load(found[index % len(found)])
        replace(bundle, source_sha256=f"{index:064x}").save(root / f"c{index}.npz")
        lines.append(f"c{index}.mp4,c{index}.npz,train,0,person{index // 2}")
    (root / "real.csv").write_text("\n".join(lines) + "\n")
    return root / "real.csv"


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_set_is_written_with_its_facts_and_the_same_each_time(split, tmp_path, capsys):
    words = [str(split), "--root", str(split.parent), "--kinds", "sbv,offset,swap,avss", "--per-real", "2", "--sheets"]
    assert fakes.main([*words, "--output", str(tmp_path / "a")]) == 0
    assert f"{CLIPS} real clips and {2 * CLIPS} fakes" in capsys.readouterr().out
    rows = read_split(tmp_path / "a/fakes.csv", tmp_path / "a", part=True)
    assert list(rows["label"]).count(1) == 2 * CLIPS and set(rows.loc[rows["label"] == 1, "method"]) <= {
        "sbv",
        "offset",
        "swap",
        "avss",
    }
    for row in rows.itertuples():
        bundle = Bundle.load(row.path)
        spans = json.loads(row.fake_segments)
        assert bool(spans) == bool(row.label) and bundle.track_frames >= 21
        if row.label:
            noted = json.loads(
                bundle.notes.splitlines()[-1].partition(": ")[2].partition(" ")[2].rpartition(", seed")[0]
            )
            begins = bundle.times[0]  # of the video: what is left out in front of the stretch counts
            assert begins > 0.2 and spans == [
                pytest.approx([begins + a / 25, begins + b / 25], abs=1e-3)
                for a, b in sorted({(a, b) for a, b, _ in noted})
            ]
            forged = {name for name, cell in (("sound", row.audio_label), ("picture", row.video_label)) if cell == "1"}
            assert forged == ({"picture"} if row.method == "sbv" else set())  # in the others both halves are genuine
        assert (row.method == "swap") == bool(row.donors) and row.donors != row.source
    assert (tmp_path / "a/sheets/sbv.png").stat().st_size > 10_000
    assert fakes.main([*words, "--output", str(tmp_path / "b")]) == 0
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_split_without_real_clips_or_of_several_settings_is_refused(split, tmp_path, tiny_config):
    table = pd.read_csv(split)
    table.assign(label=1).to_csv(split.parent / "fake.csv", index=False)
    with pytest.raises(SplitError, match="no real clips to make fakes of"):
        fakes.write_set(split.parent / "fake.csv", tmp_path, root=split.parent)
    bundle = Bundle.load(split.parent / "c0.npz")
    replace(bundle, prep_hash="0" * 16).save(split.parent / "odd.npz")
    table.loc[0, "filepath"] = "odd.npz"
    table.to_csv(split.parent / "mixed.csv", index=False)
    with pytest.raises(SplitError, match="made with several settings"):
        fakes.write_set(split.parent / "mixed.csv", tmp_path, root=split.parent)
    assert fakes.main([str(split), "--root", str(split.parent), "--output", str(tmp_path), "--kinds", "sbw"]) == 2
    with pytest.raises(SystemExit):
        fakes.main([str(split), "--output", str(tmp_path), "--per-real", "0"])


@pytest.fixture(scope="module")
def many(make_bundle, tiny_config, tmp_path_factory) -> Path:
    """A split of 40 short real clips of as many people, faces of smooth colours and voices of noise."""
    import cv2

    root = tmp_path_factory.mktemp("many")
    lines = ["filename,filepath,split,label,source"]
    for index in range(40):
        rng = np.random.default_rng([index, 9])
        T = 36
        faces = [cv2.resize(rng.integers(60, 190, (5, 5, 3), np.uint8), (64, 64)) for _ in range(3)]
        mixed = [
            cv2.addWeighted(faces[t // 13 % 3], 1 - t % 13 / 13, faces[(t // 13 + 1) % 3], t % 13 / 13, 0)
            for t in range(T)
        ]
        jpegs = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1] for image in mixed]
        loud = np.interp(np.arange(T * 640) / 900, np.arange(40), rng.uniform(0.1, 1, 40))
        marks = np.array([[22, 22], [42, 22], [32, 32], [25, 44], [39, 44]], np.float32)
        make_bundle(
            seed=index,
            boxes=np.tile(np.float32([10, 20, 110, 120]), (T, 1)),
            landmarks=np.tile(marks, (T, 1, 1)),
            det_score=np.full(T, 0.99, np.float32),
            times=(np.arange(T) / 25).astype(np.float32),
            audio=(rng.normal(0, 2000, T * 640) * loud).clip(-32000, 32000).astype(np.int16),
            track=np.concatenate(jpegs),
            track_offsets=np.cumsum([0, *map(len, jpegs)]),
        ).save(root / f"{index}.npz")
        lines.append(f"{index}.mp4,{index}.npz,train,0,p{index}")
    (root / "real.csv").write_text("\n".join(lines) + "\n")
    return root / "real.csv"


def test_the_audit_is_quiet_where_both_classes_took_the_road_and_flags_where_one_did(many, tmp_path):
    kinds = ["sbv", "splice_sound", "offset"]
    flagged = {}
    for road in ("both", "fakes"):
        fakes.write_set(many, tmp_path / road, root=many.parent, kinds=kinds, road=road)
        found = audit_split(tmp_path / road / "fakes.csv", tmp_path / road)
        flagged[road] = [finding.name for finding in found if finding.flagged]
    assert not flagged["both"]
    assert flagged["fakes"]


def test_a_set_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(many, tmp_path, monkeypatch: pytest.MonkeyPatch):
    table = pd.read_csv(many)
    table[:6].to_csv(many.parent / "six.csv", index=False)
    words = [str(many.parent / "six.csv"), "--root", str(many.parent), "--kinds", "sbv", "--seconds", "0.9", "--sheets"]
    assert fakes.main([*words, "--output", str(tmp_path / "whole")]) == 0
    append = Journal.append

    def stopped(self: Journal, clip: str, rows: list, without: list):
        if clip == "5":
            raise KeyboardInterrupt
        return append(self, clip, rows, without)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", stopped)
        assert fakes.main([*words, "--output", str(tmp_path / "stopped")]) == 130
    journal = tmp_path / "stopped/fakes.jsonl.part"
    journal.write_text(journal.read_text() + '{"of": "torn')  # as a kill leaves it
    assert not (tmp_path / "stopped/fakes.csv").exists()
    kept = [tmp_path / f"stopped/{name}.npz" for name in ("real/3", "real/4", "fake/3_0_sbv", "fake/4_0_sbv")]
    stamps = [path.stat().st_mtime_ns for path in kept]
    assert fakes.main([*words, "--output", str(tmp_path / "stopped")]) == 0
    assert [path.stat().st_mtime_ns for path in kept] == stamps  # those that the contact sheet shows are made again
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
    journal.write_text(json.dumps({"of": "other settings", "clip": "0", "rows": [], "without": []}) + "\n")
    assert fakes.main([*words, "--output", str(tmp_path / "stopped")]) == 0
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


def test_a_clip_that_gives_no_fake_is_named_and_stops_no_other(many, tmp_path, capsys):
    for index, audio in enumerate((np.zeros(36 * 640, np.int16), np.ones(36 * 640, np.int16))):
        replace(Bundle.load(many.parent / f"{index}.npz"), audio=audio).save(many.parent / f"odd{index}.npz")
    (many.parent / "odd.csv").write_text(
        "filename,filepath,split,label,source\no.mp4,odd0.npz,train,0,o\np.mp4,odd1.npz,train,0,p\nq.mp4,2.npz,train,0,q\n"
    )
    words = [str(many.parent / "odd.csv"), "--root", str(many.parent), "--kinds", "splice_sound", "--seconds", "0.9"]
    assert fakes.main([*words, "--output", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "odd0.npz: no kind of splice_sound can be made of it" in said.err
    assert "odd1.npz: none of splice_sound changes it" in said.err
    assert "2 real clips and 1 fakes" in said.out
    (many.parent / "odd.csv").write_text("filename,filepath,split,label,source\no.mp4,odd0.npz,train,0,o\n")
    assert fakes.main([*words, "--output", str(tmp_path / "none")]) == 2
    assert "no clip gives a fake" in capsys.readouterr().err
