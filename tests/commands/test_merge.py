"""Shares of one job: every input in one of them, and together what one machine makes."""

import argparse
import csv
import json
from pathlib import Path

import pytest
from conftest import TINY

from visavox.commands import crop, evaluate, features, merge, perturb
from visavox.evaluation.rows import ScoredRow, details_path
from visavox.evaluation.submission import write_classes, write_submission
from visavox.files import sha256_of
from visavox.preprocessing.manifest import Manifest
from visavox.workers.sharding import Shard, ShardError, growing, mark_of, shards_of


def test_every_name_is_taken_by_one_share_and_always_the_same():
    names = [f"real/person {n}/clip {n}.mp4" for n in range(3000)]
    shares = [[name for name in names if Shard(index, 7).takes(name)] for index in range(7)]
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert all(350 < len(share) < 510 for share in shares)
    assert [Shard(index, 3).takes("clip.mp4") for index in range(3)] == [
        True,
        False,
        False,
    ]  # whatever Python, whatever machine


def test_a_share_is_written_as_schedulers_count():
    assert Shard.parse("0/1") == Shard(0, 1) and str(Shard.parse("7/8")) == "7/8"
    for text in ("8/8", "1", "-1/3", "1/0", "a/b", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="from 0 to N - 1"):
            Shard.parse(text)


def test_missing_and_mixed_shards_are_named(tmp_path: Path):
    path = tmp_path / "manifest.jsonl"
    with pytest.raises(ShardError, match=r"run with --shard I/N first"):
        shards_of(path)
    for index in (0, 2):
        Shard(index, 4).of(path).touch()
    with pytest.raises(ShardError, match=r"2 of 4 shards are missing; run --shard 1/4, --shard 3/4"):
        shards_of(path)
    Shard(0, 2).of(path).touch()
    with pytest.raises(ShardError, match="of 2 and of 4 are mixed"):
        shards_of(path)


@pytest.fixture(scope="module")
def shared_out(talking: Path, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("shared out")
    for index in (2, 0, 1):
        arguments = ["--input", str(talking), "--output", str(output), "--workers", "1", "--shard", f"{index}/3", *TINY]
        assert crop.main(arguments) == 0
    return output


def rows(manifest: Path) -> list[dict]:
    found = [json.loads(line) for line in manifest.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "kept")} for row in found]


def test_shards_merged_are_what_one_machine_makes(talking: Path, shared_out: Path, data: Path, capsys):
    assert merge.main([str(shared_out)]) == 0
    alone = data / "data/bundles"
    assert "3 shards" in capsys.readouterr().out
    assert rows(shared_out / "manifest.jsonl") == rows(alone / "manifest.jsonl")
    bundles = sorted(path.relative_to(alone) for path in alone.rglob("*.npz"))
    assert bundles == sorted(path.relative_to(shared_out) for path in shared_out.rglob("*.npz"))
    assert [sha256_of(alone / path) for path in bundles] == [sha256_of(shared_out / path) for path in bundles]


def test_a_share_that_was_cropped_otherwise_is_refused(talking: Path, tmp_path: Path, capsys):
    for index, more in enumerate(([], ["face_margin=0.5"])):
        arguments = ["--input", str(talking), "--output", str(tmp_path), "--workers", "1", "--shard", f"{index}/2"]
        crop.main([*arguments, *TINY, "max_clip_len=0.4", *more])
    assert merge.main([str(tmp_path)]) == 2
    assert "2 different settings" in capsys.readouterr().err
    assert not (tmp_path / "manifest.jsonl").exists()


def test_scores_of_shards_merge_into_one_submission(data: Path, run: Path, tmp_path: Path, capsys):
    source, checkpoint = str(data / "data/bundles"), str(run / "best.ckpt")
    arguments = ["--input", source, "--checkpoint", checkpoint, "--workers", "1", "submit_batch_size=1"]
    alone, merged = tmp_path / "alone.csv", tmp_path / "merged.csv"
    assert evaluate.main([*arguments, "--output", str(alone)]) == 0
    assert evaluate.main([*arguments, "--output", str(merged), "--shard", "0/2"]) == 0
    assert merge.main([str(merged)]) == 2
    assert "1 of 2 shards are missing; run --shard 1/2" in capsys.readouterr().err and not merged.exists()
    assert evaluate.main([*arguments, "--output", str(merged), "--shard", "1/2"]) == 0
    assert merge.main([str(merged)]) == 0
    assert merged.read_bytes() == alone.read_bytes()
    with merged.open() as file:
        assert len(list(csv.DictReader(file))) == len(list((data / "data/bundles").rglob("*.npz")))
    assert merged.with_name("merged.details.jsonl").is_file()


def test_classes_of_shards_merge_into_one_table(tmp_path: Path, capsys):
    found = [{"angry": 0.75, "happy": 0.25}, {"angry": 0.125, "happy": 0.875}]
    rows = [ScoredRow(f"{n}.mp4", max(each.values()), "ok", classes=each) for n, each in enumerate(found)]
    alone, merged = tmp_path / "alone.csv", tmp_path / "merged.csv"
    write_classes(rows, alone, "emotion", ("angry", "happy"))
    for index, row in enumerate(rows):
        shard = Shard(index, 2).of(merged)
        write_classes([row], shard, "emotion", ("angry", "happy"))
        details_path(shard).write_text(json.dumps(row.to_json()) + "\n")
    (tmp_path / "labels.csv").write_text("filename,emotion\n0.mp4,angry\n1.mp4,angry\n")
    assert merge.main([str(merged), "--labels", str(tmp_path / "labels.csv")]) == 0
    assert merged.read_bytes() == alone.read_bytes()
    assert "accuracy 0.5000" in capsys.readouterr().out


def test_features_of_shards_merge_into_one_table(data: Path, tmp_path: Path, capsys):
    words = ["--video-backbone", "efficientface_tiny", "--audio-backbone", "MFCC", "--weights", "random", *TINY]
    words += ["--input", str(data / "data/bundles")]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert features.main([*words, "--output", str(alone)]) == 0
    assert features.main([*words, "--output", str(shared), "--shard", "1/2"]) == 0
    assert merge.main([str(shared)]) == 2
    assert "1 of 2 shards are missing; run --shard 0/2" in capsys.readouterr().err
    assert features.main([*words, "--output", str(shared), "--shard", "0/2", "--workers", "1"]) == 0
    assert merge.main([str(shared)]) == 0
    assert table(shared / "features.csv", "seconds") == table(alone / "features.csv", "seconds")
    assert len(list(shared.rglob("*.npz"))) == len(list(alone.rglob("*.npz"))) == 12


def test_effects_of_shards_merge_into_one_table(talking: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    for number, path in enumerate(sorted(talking.rglob("*.mp4"))[:3]):
        (tmp_path / f"in/{number}.mp4").symlink_to(path)
    (tmp_path / "in/text.mp4").write_text("no video\n" * 99)
    words = ["--input", str(tmp_path / "in"), "--kinds", "gain,blur", "--levels", "3", "--seconds", "0.6"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert perturb.main([*words, "--output", str(alone)]) == 1
    codes = {perturb.main([*words, "--output", str(shared), "--shard", f"{index}/2"]) for index in (1, 0)}
    assert codes == {0, 1}
    assert merge.main([str(shared)]) == 1
    found = table(shared / "effects.csv")
    assert found == table(alone / "effects.csv") and len(found) == 8
    assert [row["filename"] for row in found if row["reason"]] == ["text.mp4"] * 2
    videos = [path.relative_to(alone) for path in sorted(alone.rglob("*.mp4"))]
    assert [sha256_of(alone / path) for path in videos] == [sha256_of(shared / path) for path in videos]


def table(path: Path, without: str = "") -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: cell for key, cell in row.items() if key != without} for row in csv.DictReader(file)]


def test_a_share_that_was_stopped_is_not_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "in").mkdir()
    for number in range(4):
        (tmp_path / f"in/{number}.mp4").write_text("no video\n" * 99)
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--workers", "1", *TINY]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "rewrite", stop)
        assert crop.main([*words, "--shard", "0/1"]) == 130
    assert (tmp_path / "out/manifest.0-of-1.jsonl").is_file()
    assert merge.main([str(tmp_path / "out")]) == 2
    assert "1 of 1 shards were stopped, or are at work still; wait, or run --shard 0/1" in capsys.readouterr().err
    assert crop.main([*words, "--shard", "0/1"]) == merge.main([str(tmp_path / "out")]) == 1
    assert len(rows(tmp_path / "out/manifest.jsonl")) == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.0-of-1.jsonl", "manifest.jsonl"}


def test_a_share_that_ran_twice_at_a_time_ends_twice(tmp_path: Path):
    share = tmp_path / "manifest.0-of-2.jsonl"
    with growing(share), growing(share):
        assert mark_of(share).is_file()
    assert not mark_of(share).exists()


def test_calibrated_scores_and_others_are_not_merged(tmp_path: Path, capsys):
    for index, raw in enumerate((None, 0.25)):
        shard = Shard(index, 2).of(tmp_path / "s.csv")
        scores = [ScoredRow(f"{index}.mp4", 0.5, "ok", raw=raw), ScoredRow(f"{index}-lost.mp4", 0.5, "no_face")]
        write_submission(scores, shard)
        details_path(shard).write_text("".join(f"{json.dumps(row.to_json())}\n" for row in scores))
    assert merge.main([str(tmp_path / "s.csv")]) == 2 and not (tmp_path / "s.csv").exists()
    assert "1 of its 2 scores are calibrated, the others are not; score all shards with the same --calibration" in (
        capsys.readouterr().err
    )


def test_scores_of_a_share_that_is_scored_again_are_not_merged(tmp_path: Path, capsys):
    shard = Shard(0, 1).of(tmp_path / "s.csv")
    write_submission([row := ScoredRow("a.mp4", 0.5, "ok")], shard)
    details_path(shard).write_text(f"{json.dumps(row.to_json())}\n")
    part = tmp_path / "s.0-of-1.details.jsonl.part"
    part.touch()  # as a rerun that was killed leaves it
    assert merge.main([str(tmp_path / "s.csv")]) == 2 and not (tmp_path / "s.csv").exists()
    assert f"{part.name} is there: that shard was stopped" in capsys.readouterr().err
    part.unlink()
    assert merge.main([str(tmp_path / "s.csv")]) == 0


def test_a_table_that_is_damaged_is_named(tmp_path: Path, capsys):
    for text, said in ((b"", "is empty; remove it"), (b'filename,"\xff', "is damaged")):
        (tmp_path / "features.0-of-1.csv").write_bytes(text)
        assert merge.main([str(tmp_path)]) == 2 and said in capsys.readouterr().err
