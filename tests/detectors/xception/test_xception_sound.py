"""What Xception's audio branch hears: windows, mel images and what training blanks in them."""

import numpy as np
import pytest
import torch

from visavox.detectors.xception.audio import images, mel_windows, spec_augment, window_starts

pytestmark = pytest.mark.usefixtures("one_thread")


# Sound


def test_windows_equal_librosas_where_both_hear_the_same():
    import librosa

    sound = np.random.default_rng(2).integers(-8000, 8000, 5 * 16000).astype(np.int16)
    mels = mel_windows(sound, 16000, 128, 2.0, 0.5)
    assert mels.shape == (4, 128, 63)
    with torch.autocast("cpu", torch.bfloat16):
        assert (mel_windows(sound, 16000, 128, 2.0, 0.5) == mels).all()
    window = sound[32000:64000] / np.float32(32768)  # window 2, which begins at a step: 32000 = 62.5 * 512, off by half
    near = round(32000 / 512) * 512
    window = sound[near : near + 32000] / np.float32(32768)
    power = librosa.feature.melspectrogram(
        y=window, sr=16000, n_fft=2048, hop_length=512, n_mels=128, fmin=20, fmax=8000
    )
    expected = librosa.power_to_db(power, ref=1.0)
    np.testing.assert_allclose(mels[2][:, 2:-2], expected[:, 2:-2], atol=2e-3)  # the outer steps see beyond the window


def test_a_tone_lies_in_its_bin_and_in_its_window():
    import librosa

    time = np.arange(6 * 16000) / 16000
    sound = (8000 * np.sin(2 * np.pi * 1000 * time) * ((time >= 3) & (time < 5))).astype(np.int16)
    mels = mel_windows(sound, 16000, 128, 2.0, 0.5)
    centres = librosa.mel_frequencies(130, fmin=20, fmax=8000)[1:-1]
    assert abs(centres[mels[3].mean(1).argmax()] - 1000) < 30
    assert window_starts(5, 2.0, 0.5).tolist() == [0, 1, 2, 3, 4]
    assert mels[0].max() < -99 and mels[3][:, 2:-2].max(0).min() > 0  # nothing in 0..2 s, all of 3..5 s


@pytest.mark.parametrize(("seconds", "count"), [(0, 0), (0.4, 1), (1.5, 1), (2.0, 1), (2.59, 1), (2.6, 2), (9.9, 9)])
def test_a_window_needs_four_fifths_of_its_sound(seconds: float, count: int):
    assert len(mel_windows(np.ones(round(seconds * 16000), np.int16), 16000, 64, 2.0, 0.5)) == count


def test_images_are_standardised_and_silence_is_flat():
    mels = np.random.default_rng(0).normal(-40, 12, (3, 128, 63)).astype(np.float32)
    shown = images(mels, 299)
    assert shown.shape == (3, 299, 299) and shown.dtype == np.float32
    assert np.abs(shown.mean(axis=(1, 2))).max() < 0.05
    assert not images(np.full((1, 128, 63), -80, np.float32), 96).any()


def test_spec_augment_blanks_some_bins_and_steps_and_leaves_its_input():
    mel = np.random.default_rng(0).normal(size=(128, 63))
    kept = mel.copy()
    blank = [spec_augment(mel, np.random.default_rng(seed)) != mel for seed in range(20)]
    assert (mel == kept).all() and 0.02 < np.mean(blank) < 0.4
    assert any(change.all(1).any() for change in blank) and any(change.all(0).any() for change in blank)
