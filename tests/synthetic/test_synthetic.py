"""Synthetic clips are what they claim: deterministic, found by the detectors, in sync where genuine, forged as labelled."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from visavox.features.sync import correlation_sync
from visavox.media import open_video
from visavox.synthetic.clips import MAX_SHIFT, SAMPLES_PER_FRAME, Clip, render
from visavox.synthetic.dataset import make_dataset, plan
from visavox.synthetic.fakes import KINDS, MIN_SHIFT, forge

PERSON, TAKE, SECONDS = 7, 3, 2.4


@pytest.fixture(scope="module")
def genuine() -> Clip:
    return render(PERSON, TAKE, SECONDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("synthetic")
    make_dataset(root, identities=2, clips_per_identity=4, seconds=(1.0, 1.2), size=192, workers=1)
    return root


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio / 32768))))


def test_sound_and_picture_last_equally_long(genuine):
    assert genuine.frames.shape == (60, 256, 256, 3)
    assert genuine.frames.dtype == np.uint8
    assert genuine.audio.shape == (60 * SAMPLES_PER_FRAME,)
    assert genuine.audio.dtype == np.int16


def test_the_same_arguments_give_the_same_clip_and_other_people_look_and_sound_otherwise(genuine):
    again, other = render(PERSON, TAKE, SECONDS), render(PERSON + 1, TAKE, SECONDS)
    assert np.array_equal(again.frames, genuine.frames)
    assert np.array_equal(again.audio, genuine.audio)
    assert not np.array_equal(other.frames, genuine.frames)
    assert not np.array_equal(other.audio, genuine.audio)


def test_the_voice_is_loud_where_the_mouth_is_open(genuine):
    loudness = np.sqrt(np.mean(np.square(genuine.audio.reshape(60, -1) / 32768), axis=1))
    opening = genuine.articulation.opening.reshape(60, 4).mean(axis=1)
    r = [np.corrcoef(np.roll(loudness, -shift)[15:-15], opening[15:-15])[0, 1] for shift in range(-15, 16)]
    assert abs(int(np.argmax(r)) - 15) <= 1
    assert max(r) > 0.7


def test_an_open_mouth_is_darker_than_a_closed_one(genuine):
    def darkest(n: int) -> float:
        (left, y), (right, _) = genuine.landmarks[n, 3:]
        return float(np.percentile(genuine.frames[n, int(y) - 4 : int(y) + 24, int(left) : int(right)], 5))

    opening = genuine.articulation.opening[::4]
    assert darkest(int(opening.argmax())) < darkest(int(opening.argmin())) - 20


def test_formants_of_the_voice_stand_out_of_its_spectrum():
    from visavox.synthetic.voice import Articulation, Voice, speak

    steps = np.ones(100, np.float32)
    formants = np.tile(np.float32([700, 1300, 2500, 3500]), (100, 1))
    track = Articulation(steps, steps, steps, 0 * steps, 110 * steps, formants)
    sound = speak(Voice(110.0, 1.0, 0.005, 0.02, 1.0), track, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(sound[2000:14000])) ** 2
    hertz = np.fft.rfftfreq(12000, 1 / 16000)

    def level(low: float, high: float) -> float:
        return 10 * np.log10(power[(hertz >= low) & (hertz < high)].mean())

    assert level(600, 800) > level(900, 1100) + 3
    assert level(2400, 2600) > level(1800, 2000) + 3
    assert abs(hertz[np.argmax(power * (hertz > 60) * (hertz < 160))] - 110) < 4


@pytest.mark.parametrize("identity", range(40, 46))
def test_haar_finds_one_face_and_it_is_the_right_one(identity):
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    clip = render(identity, 1, 1.2)
    for frame, points in zip(clip.frames[::6], clip.landmarks[::6], strict=True):
        faces = cascade.detectMultiScale(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 1.1, 4, minSize=(40, 40))
        assert len(faces) == 1
        x, y, width, height = faces[0]
        assert ((points > (x, y)) & (points < (x + width, y + height))).all()


@pytest.mark.data
def test_retinaface_finds_every_face_and_its_landmarks(weights_dir):
    import torch

    from visavox.faces.retinaface import RetinaFaceDetector

    state = torch.load(weights_dir / "retinaface_mobilenet0.25.pth", map_location="cpu", weights_only=True)
    detector = RetinaFaceDetector("mobilenet0.25", state)
    for identity in range(50, 56):
        clip = render(identity, 1, 1.2)
        for found, points in zip(detector.detect(list(clip.frames[::10])), clip.landmarks[::10], strict=True):
            best = int(np.argmax(found.scores))
            assert found.scores[best] > 0.95
            apart = np.linalg.norm(points[1] - points[0])
            assert np.linalg.norm(found.landmarks[best] - points, axis=1).max() < 0.35 * apart


def test_shifted_audio_is_the_same_utterance_moved_and_the_frames_stay(genuine):
    late = render(PERSON, TAKE, SECONDS, shift=5)
    assert np.array_equal(late.frames, genuine.frames)
    ours, theirs = (
        genuine.audio[: -5 * SAMPLES_PER_FRAME].astype(float),
        late.audio[5 * SAMPLES_PER_FRAME :].astype(float),
    )
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99
    first = late.audio[: 5 * SAMPLES_PER_FRAME]
    assert first.any()  # the utterance goes on before the cut: no padding

    with pytest.raises(ValueError, match="from -12 to 12"):
        render(PERSON, TAKE, SECONDS, shift=MAX_SHIFT + 1)


@pytest.mark.parametrize("shift", [-9, 0, 4])
def test_the_correlation_finds_the_shift(shift):
    clip = render(PERSON, 11, 3.6, shift=shift)
    assert abs(correlation_sync(clip.frames, clip.landmarks, clip.audio).latency - shift) <= 1


def test_audio_shifted_says_by_how_much(genuine):
    fake = forge("audio_shifted", PERSON, TAKE, SECONDS)
    assert MIN_SHIFT <= abs(fake.shift) <= MAX_SHIFT
    assert np.array_equal(fake.clip.frames, genuine.frames)
    assert np.array_equal(fake.clip.audio, render(PERSON, TAKE, SECONDS, shift=fake.shift).audio)


def test_audio_swapped_keeps_the_frames_and_takes_another_utterance(genuine):
    fake = forge("audio_swapped", PERSON, TAKE, SECONDS)
    assert fake.donors == (PERSON,)
    assert np.array_equal(fake.clip.frames, genuine.frames)
    assert len(fake.clip.audio) == len(genuine.audio)
    assert abs(np.corrcoef(fake.clip.audio, genuine.audio)[0, 1]) < 0.2
    assert forge("audio_swapped", PERSON, TAKE, SECONDS, donor=8).donors == (8,)


def test_face_blended_changes_the_inner_face_alone_and_not_its_brightness(genuine):
    fake = forge("face_blended", PERSON, TAKE, SECONDS)
    assert np.array_equal(fake.clip.audio, genuine.audio)
    changed = np.abs(fake.clip.frames.astype(int) - genuine.frames).max(axis=(0, 3))  # (H, W)
    eyes_to_mouth = genuine.landmarks.mean(0)
    x, y = eyes_to_mouth[2].astype(int)
    assert changed[y - 10 : y + 10, x - 10 : x + 10].mean() > 10
    assert not changed[:20].any()
    assert not changed[:, :20].any()
    luma = [cv2.cvtColor(c.frames.reshape(-1, 256, 3), cv2.COLOR_RGB2GRAY).mean() for c in (fake.clip, genuine)]
    assert abs(luma[0] - luma[1]) < 0.5


def test_voice_vocoded_keeps_frames_and_loudness_and_loses_the_fine_structure(genuine):
    fake = forge("voice_vocoded", PERSON, TAKE, SECONDS)
    assert np.array_equal(fake.clip.frames, genuine.frames)
    assert rms(fake.clip.audio) == pytest.approx(rms(genuine.audio), rel=0.02)
    assert abs(np.corrcoef(fake.clip.audio, genuine.audio)[0, 1]) < 0.5
    envelopes = [np.square(a / 32768).reshape(60, -1).mean(axis=1) ** 0.25 for a in (fake.clip.audio, genuine.audio)]
    assert np.corrcoef(*envelopes)[0, 1] > 0.8


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ValueError, match="audio_shifted, audio_swapped"):
        forge("lip_sync", 0, 0, 1.0)


def test_a_data_set_is_balanced_and_its_files_are_videos_with_sound(folder):
    table = rows(folder)
    assert [r["label"] for r in table].count("1") == 4
    assert sorted(r["kind"] for r in table if r["label"] == "1") == sorted(KINDS)
    assert {r["filename"] for r in table} == {p.relative_to(folder).as_posix() for p in folder.rglob("*.mp4")}
    for row in table:
        assert row["filename"].startswith("fake/" if row["label"] == "1" else "real/")
        assert (row["shift"] != "0") == (row["kind"] == "audio_shifted")
        with open_video(folder / row["filename"], threads=1) as video:
            assert sum(1 for _ in video.frames()) == round(float(row["seconds"]) * 25)
            assert rms(video.audio()) > 0.01


def test_the_bytes_do_not_depend_on_the_number_of_workers(folder, tmp_path):
    make_dataset(tmp_path, identities=2, clips_per_identity=4, seconds=(1.0, 1.2), size=192, workers=2)
    files = [p.relative_to(folder) for p in sorted(folder.rglob("*.*"))]
    assert len(files) == 9
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_voices_are_borrowed_within_the_group_and_never_from_oneself():
    jobs = plan(12, 8, 0, (3.0, 4.0), 0.5, ("audio_swapped",), groups=3)
    borrowed = [job.names.split(";") for job in jobs if job.kind == "audio_swapped"]
    assert len(borrowed) == 48
    for host, donor in borrowed:
        assert host != donor
        assert int(host[2:]) // 4 == int(donor[2:]) // 4
    assert all(";" not in job.names for job in plan(12, 8, 0, (3.0, 4.0), 0.5, KINDS, groups=None))


def test_every_identity_has_every_kind_and_lengths_do_not_tell_the_label():
    jobs = plan(64, 8, 0, (3.0, 4.0), 0.5, KINDS, None)
    for i in range(64):
        kinds = [job.kind for job in jobs if job.names == f"id{i:04d}"]
        assert sorted(kinds) == sorted([*KINDS, *["real"] * 4])
    seconds = {kind: np.mean([job.seconds for job in jobs if job.kind == kind]) for kind in ("real", *KINDS)}
    assert max(seconds.values()) - min(seconds.values()) < 0.15


def test_the_command_refuses_an_unknown_kind(tmp_path):
    command = [sys.executable, "-m", "visavox.synthetic", "--output", str(tmp_path), "--kinds", "deepfake"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "the kinds are audio_shifted" in done.stderr
