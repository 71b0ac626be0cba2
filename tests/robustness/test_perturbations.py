"""Every perturbation changes what it names, more at each level, in the same way every time, and nothing else."""

import cv2
import numpy as np
import pytest

from visavox.robustness.kinds import DEFAULT, KINDS, UnknownKind, chosen, levels_of
from visavox.robustness.measure import effect, lag, mel_distance
from visavox.robustness.perturbing import Recipe
from visavox.synthetic.voice import articulate, speak, voice_of

RATE = 16000


@pytest.fixture(scope="module")
def clip() -> tuple[list[np.ndarray], np.ndarray]:
    """Two seconds of a moving coloured pattern with texture, and of a synthetic voice."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (120, 160, 3)).astype(np.float32), (0, 0), 1.5)
    y, x = np.mgrid[:120, :160]
    frames = []
    for t in range(50):
        waves = np.stack([np.sin((x + t) / 12), np.sin((y - t) / 11), np.sin((x + y + t) / 13)], axis=2)
        frames.append(np.clip(60 * waves + texture, 0, 255).astype(np.uint8))
    voice = voice_of(3)
    spoken = speak(voice, articulate(voice, 2.0, rng), rng)
    sound = 12000 * spoken + rng.normal(0, 15, len(spoken))
    return frames, np.clip(sound, -30000, 30000).astype(np.int16)


def changed(kind: str, level: int, clip, name: str = "a.mp4"):
    recipe, (frames, sound) = Recipe(kind, level), clip
    what = KINDS[kind]
    seen = list(what.picture(iter(frames), recipe.constant, recipe.rng(name, 0))) if what.picture else frames
    heard = what.sound(sound, RATE, recipe.constant, recipe.rng(name, 1)) if what.sound else sound
    return seen, heard


@pytest.mark.parametrize("kind", KINDS)
def test_each_level_changes_more_than_the_one_before(kind: str, clip):
    frames, sound = clip
    effects = []
    for level in range(1, 6):
        seen, heard = changed(kind, level, clip)
        assert len(seen) == len(frames) and len(heard) == len(sound) and heard.dtype == np.int16
        assert all(frame.shape == frames[0].shape and frame.dtype == np.uint8 for frame in seen)
        effects.append(effect(frames, seen, sound, heard, RATE))
    if KINDS[kind].picture:
        psnr = [each.psnr for each in effects]
        assert np.isfinite(psnr).all() and psnr == sorted(psnr, reverse=True) and psnr[0] > psnr[-1] + 1, psnr
    else:
        assert all(each.psnr == float("inf") for each in effects)
    if kind in ("late", "early"):
        assert [each.lag for each in effects] == [round(frames * RATE / 25) for frames in KINDS[kind].levels]
    elif KINDS[kind].sound:
        distance = [each.mel_distance for each in effects]
        assert distance[0] > 0.05 and distance == sorted(distance) and distance[-1] > 1.1 * distance[0], distance
    else:
        assert all(each.mel_distance == 0 for each in effects)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_video_is_changed_in_the_same_way(kind: str, clip):
    one, other = changed(kind, 3, clip), changed(kind, 3, clip)
    assert all(np.array_equal(a, b) for a, b in zip(one[0], other[0])) and np.array_equal(one[1], other[1])


def test_another_video_is_changed_in_another_way(clip):
    for kind in ("blocks", "noise", "dropped", "white_noise", "music"):
        one, other = changed(kind, 3, clip, "a.mp4"), changed(kind, 3, clip, "b.mp4")
        same = all(np.array_equal(a, b) for a, b in zip(one[0], other[0])) and np.array_equal(one[1], other[1])
        assert not same, kind


def test_constants_are_the_published_ones():
    """DeeperForensics-1.0, perturbation/add_distortion_to_video.py."""
    assert KINDS["saturation"].levels == (0.4, 0.3, 0.2, 0.1, 0.0)
    assert KINDS["contrast"].levels == (0.85, 0.725, 0.6, 0.475, 0.35)
    assert KINDS["blocks"].levels == (16, 32, 48, 64, 80)
    assert KINDS["noise"].levels == (0.001, 0.002, 0.005, 0.01, 0.05)
    assert KINDS["blur"].levels == (7, 9, 13, 17, 21)
    assert KINDS["pixelation"].levels == (2, 3, 4, 5, 6)
    assert KINDS["compression"].levels == (30, 32, 35, 38, 40)
    assert len(DEFAULT) == 8 and sum(kind.group == "sound" for kind in KINDS.values()) * 5 >= 20


def test_numbers_of_single_changes(clip):
    frames, sound = clip
    grey, _ = changed("saturation", 5, clip)
    assert np.ptp(grey[3].astype(int), axis=2).max() <= 2
    dark, _ = changed("contrast", 5, clip)
    assert dark[0].mean() == pytest.approx(0.35 * frames[0].mean(), rel=0.01)
    blocks, _ = changed("blocks", 1, clip)
    touched = (blocks[0] == 128).all(2) & (frames[0] != 128).any(2)
    assert 0 < touched.sum() <= 16 * 64
    _, noisy = changed("white_noise", 2, clip)
    added = noisy.astype(float) - sound
    assert 10 * np.log10(np.mean(sound.astype(float) ** 2) / np.mean(added**2)) == pytest.approx(20, abs=0.2)
    _, muted = changed("mute", 5, clip)
    assert (muted == 0).mean() == pytest.approx(0.5, abs=0.02)
    slow, _ = changed("frame_rate", 4, clip)
    assert len({frame.tobytes() for frame in slow}) == 20
    _, band = changed("band", 5, clip)
    above = np.fft.rfftfreq(len(sound), 1 / RATE) > 1200  # sampled at 2 kHz
    assert np.abs(np.fft.rfft(band))[above].sum() < 0.05 * np.abs(np.fft.rfft(sound))[above].sum()


def test_codecs_leave_the_sound_in_step(clip):
    _, sound = clip
    for kind in ("aac", "mp3", "opus", "telephone"):
        _, heard = changed(kind, 1, clip)
        assert abs(lag(sound, heard)) <= 8, kind  # samples: half a millisecond


def test_silence_and_short_sound_pass():
    for kind in KINDS.values():
        if kind.sound:
            for sound in (np.zeros(0, np.int16), np.zeros(RATE // 2, np.int16)):
                out = kind.sound(sound, RATE, kind.levels[2], np.random.default_rng(0))
                assert len(out) == len(sound) and np.abs(out.astype(int)).max(initial=0) <= 2, kind.name


def test_what_does_not_exist_is_refused_by_name():
    assert [kind.name for kind in chosen("blur,aac")] == ["blur", "aac"] and len(chosen("all")) == len(KINDS)
    assert [kind.name for kind in chosen(None)] == list(DEFAULT) and levels_of("5,1") == [1, 5]
    for wrong in ("blurr", ""):
        with pytest.raises(UnknownKind, match="no kind"):
            chosen(wrong)
    for wrong in ("0", "6", "x"):
        with pytest.raises(UnknownKind, match="1 \\(mild\\)"):
            levels_of(wrong)


def test_equal_sounds_have_no_distance(clip):
    assert mel_distance(clip[1], clip[1], RATE) == 0
