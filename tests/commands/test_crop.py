"""crop.py on real files: every input its row, every good one its bundle, whatever lies beside it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

from visavox import config as configuration
from visavox.bundle import Bundle, BundleError
from visavox.commands import crop
from visavox.files import find_inputs
from visavox.media import write_video
from visavox.synthetic.clips import render

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tiny():
    return configuration.load(ROOT / "configs/tiny.json")


@pytest.fixture(scope="module")
def cropped(talking: Path, tmp_path_factory) -> Path:
    """The synthetic clips, cropped once."""
    output = tmp_path_factory.mktemp("bundles")
    assert crop.main(["--input", str(talking), "--output", str(output), "--workers", "2", *TINY]) == 0
    return output


def manifest(output: Path) -> dict[str, dict]:
    rows = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    assert [row["input"] for row in rows] == sorted(row["input"] for row in rows)
    return {row["input"]: row for row in rows}


def test_every_clip_has_a_bundle_under_its_own_folder(talking: Path, cropped: Path):
    rows = manifest(cropped)
    videos = sorted(path.relative_to(talking).as_posix() for path in talking.rglob("*.mp4"))
    assert list(rows) == videos
    for name, row in rows.items():
        assert row["status"] == "ok"
        assert Path(row["bundle"]) == Path(name).with_suffix(".npz")
        stages = {"decode", "detect", "cut", "mel", "sync", "encode", "save"}
        assert stages <= set(row["seconds"])
        assert sum(row["seconds"][stage] for stage in stages) <= row["seconds"]["total"] + 0.01


def test_a_bundle_holds_what_the_schema_says(cropped: Path, tiny):
    bundle = Bundle.load(next(cropped.rglob("*.npz")))
    T = bundle.track_frames
    assert bundle.faces.shape == (tiny.bundle_faces, tiny.frame_size, tiny.frame_size, 3)
    assert bundle.mel_3cs.shape[:2] == (3, tiny.freq_num)
    assert len(bundle.audio) == T * tiny.resample_rate // 25
    assert np.allclose(np.diff(bundle.times), 1 / 25, atol=1e-4)
    assert bundle.latency == np.argmin(bundle.mdist) - tiny.vshift
    assert bundle.conf == pytest.approx(np.median(bundle.mdist) - bundle.mdist.min(), abs=1e-6)
    kept = ((np.arange(tiny.bundle_faces) + 0.5) * T / tiny.bundle_faces).astype(int)
    difference = [np.abs(bundle.frame(t).astype(int) - face).mean() for t, face in zip(kept, bundle.faces)]
    assert max(difference) < 3  # the track is JPEG, the faces are not


def test_cropping_again_keeps_everything(talking: Path, cropped: Path, capsys):
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in cropped.rglob("*.npz")}
    assert crop.main(["--input", str(talking), "--output", str(cropped), "--workers", "2", *TINY]) == 0
    assert f"{len(before)} kept from before" in capsys.readouterr().out
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before


def test_videos_that_show_their_face_for_a_part_are_counted_also_when_they_are_kept(tmp_path: Path, capsys):
    frames, sound, *_ = render(1, 7, 3.0, 128)
    frames[50:] = frames[0, 2, 2]
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "leaves.mp4", frames, sound)
    write_video(tmp_path / "in" / "stays.mp4", frames[:45], sound)
    for kept in (False, True):
        assert crop.main(["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *TINY]) == 0
        assert "1 of them show the main face on less than 90%" in capsys.readouterr().out
        leaves, stays = manifest(tmp_path / "out").values()
        assert (leaves["frames_read"], stays["frames"], stays["frames_read"]) == (75, 45, 45)
        assert leaves.get("kept", False) == kept and 48 <= leaves["frames"] <= 50
        assert leaves["notes"][0] == f"track: {leaves['frames']} of 75 frames show the main face"


def test_other_settings_or_another_video_make_the_bundle_anew(talking: Path, tmp_path: Path):
    first, second = sorted(talking.rglob("*.mp4"))[:2]
    video, bundle = tmp_path / "in" / "a.mp4", tmp_path / "out" / "a.npz"
    video.parent.mkdir()
    shutil.copy(first, video)
    run = ["--input", str(video), "--output", str(bundle.parent), "--workers", "1", *TINY]
    assert crop.main(run) == 0
    old = Bundle.load(bundle)
    assert crop.main([*run, "frame_size=80"]) == 0
    assert Bundle.load(bundle).faces.shape[1] == 80
    assert Bundle.load(bundle).prep_hash != old.prep_hash
    shutil.copy(second, video)
    assert crop.main(run) == 0
    assert Bundle.load(bundle).source_sha256 != old.source_sha256


def test_two_runs_give_equal_bytes(talking: Path, cropped: Path, tmp_path: Path):
    one = sorted(talking.rglob("*.mp4"))[0]
    assert crop.main(["--input", str(one), "--output", str(tmp_path), "--workers", "1", *TINY]) == 0
    there = cropped / one.relative_to(talking).with_suffix(".npz")
    assert (tmp_path / one.name).with_suffix(".npz").read_bytes() == there.read_bytes()


def test_previews_are_pictures_and_films(talking: Path, tmp_path: Path):
    import cv2

    from visavox import media

    one = sorted(talking.rglob("*.mp4"))[0]
    words = ["--input", str(one), "--output", str(tmp_path), "--save-image", "--save-avi", "--workers", "1", *TINY]
    assert crop.main(words) == 0
    assert cv2.imread(str(tmp_path / f"{one.stem}.preview.png")).std() > 10
    bundle = Bundle.load(tmp_path / f"{one.stem}.npz")
    with media.open_video(tmp_path / f"{one.stem}.preview.avi") as video:
        frames = list(video.frames())
        sound = video.audio()
    assert abs(len(frames) - bundle.track_frames) <= 1
    assert list(find_inputs(tmp_path, {".npz", ".avi"})) == [f"{one.stem}.npz"]  # a preview is no input
    heard = np.corrcoef(sound[: len(bundle.audio)], bundle.audio[: len(sound)])[0, 1]
    assert heard > 0.99


def test_equal_names_never_collide(talking: Path, tmp_path: Path):
    one, two = sorted(talking.rglob("*.mp4"))[:2]
    videos = tmp_path / "in"
    for place, source in (("a/clip.mp4", one), ("b/clip.mp4", two), ("b/clip.mov", one)):
        (videos / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, videos / place)
    assert crop.main(["--input", str(videos), "--output", str(tmp_path / "out"), "--workers", "2", *TINY]) == 0
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.npz"))
    assert made == ["a/clip.npz", "b/clip.mov.npz", "b/clip.mp4.npz"]


@pytest.fixture(scope="module")
def bad_videos(talking: Path, tmp_path_factory) -> Path:
    """A folder with one of each kind of trouble, and two good clips."""
    folder = tmp_path_factory.mktemp("trouble")
    good = sorted(talking.rglob("*.mp4"))
    data = good[0].read_bytes()
    (folder / "good.mp4").write_bytes(data)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is not a video\n" * 50)
    (folder / "cut_index_at_end.mp4").write_bytes(data[: len(data) // 2])
    (Path(os.fsdecode(os.fsencode(folder) + b"/name_\xff\xfe.mp4"))).write_bytes(data)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (40, 96, 96, 3), np.uint8)
    tone = (np.sin(np.arange(25600) / 5) * 8000).astype(np.int16)
    write_video(folder / "no_face.mp4", noise, tone)
    write_video(folder / "one_frame.mp4", noise[:1], tone[:640])
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    (folder / "notes.txt").write_text("left alone")
    return folder


def test_each_trouble_has_its_row_and_the_rest_is_done(bad_videos: Path, tmp_path: Path, capsys):
    assert crop.main(["--input", str(bad_videos), "--output", str(tmp_path), "--workers", "2", *TINY]) == 1
    rows = manifest(tmp_path)
    assert {name: row["status"] for name, row in rows.items()} == {
        "good.mp4": "ok",
        "name_\\xff\\xfe.mp4": "ok",
        "empty.mp4": "failed",
        "text.mp4": "failed",
        "cut_index_at_end.mp4": "failed",
        "no_face.mp4": "no_face",
        "one_frame.mp4": "no_face",
        "pipe.mp4": "failed",
    }
    reasons = {name: row["reason"] for name, row in rows.items() if row["status"] != "ok"}
    assert len(set(reasons.values())) >= len(reasons) - 1  # each its own words, but for the two without a face
    said = capsys.readouterr().err
    assert all(name in said for name in reasons)
    assert sorted(path.name for path in tmp_path.rglob("*.npz")) == ["good.npz", "name_\\xff\\xfe.npz"]
    assert not list(tmp_path.rglob("*.part*"))


def test_no_audio_is_a_bundle_without_sync(talking: Path, tmp_path: Path, tiny):
    from visavox import media

    with media.open_video(sorted(talking.rglob("*.mp4"))[0]) as video:
        write_video(tmp_path / "silent.mp4", list(video.frames()), None)
    assert crop.main(["--input", str(tmp_path / "silent.mp4"), "--output", str(tmp_path), "--workers", "1", *TINY]) == 0
    bundle = Bundle.load(tmp_path / "silent.npz")
    assert bundle.status == "no_audio"
    assert np.isnan(bundle.latency_vector).all()
    assert (bundle.mel_3cs[0] == -80).all() and not len(bundle.audio)


def test_too_short_says_how_many_frames_are_needed(talking: Path, tmp_path: Path):
    from visavox import media

    with media.open_video(sorted(talking.rglob("*.mp4"))[0]) as video:
        frames = list(video.frames())[:12]
    write_video(tmp_path / "short.mp4", frames, np.zeros(12 * 640, np.int16))
    assert crop.main(["--input", str(tmp_path / "short.mp4"), "--output", str(tmp_path), "--workers", "1", *TINY]) == 1
    row = manifest(tmp_path)["short.mp4"]
    assert row["status"] == "too_short" and "21 are needed" in row["reason"]


def test_a_full_disk_costs_the_file_and_leaves_nothing_behind(talking: Path, tmp_path: Path):
    """A limit on the size of files stands in for the full disk; it would hold for the memory shared with a decoder, too."""
    code = (
        "import resource, sys, crop;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "sys.exit(crop.main(sys.argv[1:]))"
    )
    one = sorted(talking.rglob("*.mp4"))[0]
    words = ["--input", str(one), "--output", str(tmp_path), "--workers", "1", *TINY, "confine=off"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "could not be written" in manifest(tmp_path)[one.name]["reason"]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.jsonl"]


def test_killed_and_resumed_gives_the_same_bundles(talking: Path, cropped: Path, tmp_path: Path):
    output, there, program = tmp_path / "out", tmp_path / "there", tmp_path / "held.py"
    program.write_text(  # a worker that finds three bundles waits in the middle of writing the next one
        "import sys, time, crop\n"
        "from pathlib import Path\n"
        "from visavox import bundle\n"
        "write = bundle.schema._write_npz\n"
        "def held(file, made):\n"
        f"    if len(list(Path({str(output)!r}).rglob('*.npz'))) >= 3:\n"
        f"        file.write(b'half a bundle'); file.flush(); Path({str(there)!r}).touch(); time.sleep(600)\n"
        "    write(file, made)\n"
        "bundle.schema._write_npz = held\n"
        "if __name__ == '__main__': sys.exit(crop.main(sys.argv[1:]))\n"
    )
    words = ["--input", str(talking), "--output", str(output), "--workers", "2", *TINY]
    running = subprocess.Popen(
        [sys.executable, str(program), *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not there.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert 3 <= len(list(output.rglob("*.npz"))) <= 4 and list(output.rglob("*.part"))
    tmp_path, words = output, [sys.executable, "crop.py", *words]
    assert subprocess.run(words, cwd=ROOT, capture_output=True).returncode == 0
    for path in cropped.rglob("*.npz"):
        assert (tmp_path / path.relative_to(cropped)).read_bytes() == path.read_bytes()
    assert not list(tmp_path.rglob("*.part*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--input", "nowhere"], "no such file or folder"),
        (["--input", "tests"], "holds no video"),
        (["--input", "tests", "frame_sise=3"], "did you mean frame_size?"),
    ],
)
def test_wrong_arguments_do_nothing(words: list[str], said: str, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert crop.main([*words[:2], "--output", str(tmp_path / "out"), *TINY, *words[2:]]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_said_once_before_any_work(talking: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    assert crop.main(["--input", str(talking), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "retinaface_mobilenet0.25.pth" in said and str(tmp_path / "weights") in said


def test_a_damaged_bundle_is_made_anew(talking: Path, cropped: Path, tmp_path: Path):
    one = sorted(talking.rglob("*.mp4"))[0]
    whole = (cropped / one.relative_to(talking).with_suffix(".npz")).read_bytes()
    bundle = (tmp_path / one.name).with_suffix(".npz")
    bundle.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError):
        Bundle.load(bundle)
    assert crop.main(["--input", str(one), "--output", str(tmp_path), "--workers", "1", *TINY]) == 0
    assert bundle.read_bytes() == whole


@pytest.mark.data
def test_every_real_clip_gives_a_bundle(clips: Path, weights_dir: Path, tmp_path: Path, monkeypatch):
    """Three real clips of different codecs with RetinaFace; all 36 are measured by hand."""
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(weights_dir))
    videos = tmp_path / "in"
    videos.mkdir()
    for name in ("real/grid_bbaf2n.mpg", "real/pcavs_00086.mp4", "real/vrt_1.mp4"):
        shutil.copy(clips / name, videos)
    assert (
        crop.main(["--input", str(videos), "--output", str(tmp_path / "out"), "--workers", "2", "sync=correlation"])
        == 0
    )
    assert {row["status"] for row in manifest(tmp_path / "out").values()} == {"ok"}
