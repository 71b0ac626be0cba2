"""Mel against librosa, MFCC against numbers of python_speech_features, and what short or silent sound gives."""

import numpy as np
import pytest

from visavox.features.audio import mel_3cs, mel_floor, mel_images, mfcc

# Last column of python_speech_features 0.6 `mfcc(decaying_chirp(n), 16000).T`, and its number of columns
PUBLISHED_MFCC = {
    100: (1, [14.34269, 20.45552, 12.97323, 10.80283, 9.84492, 8.50383, 7.96687, 5.90569, 4.69608, 2.88427, 2.26449,
              1.11357, 0.36856]),
    400: (1, [16.70473, 45.8457, 29.32025, 19.32389, 14.46468, 6.61948, 2.27154, -2.8983, -6.7319, -9.05442, -10.15809,
              -9.18482, -8.89831]),
    401: (2, [16.56497, 32.59977, 24.86248, 18.73183, 12.27667, 5.51787, -0.25694, -5.46301, -9.52965, -12.39625,
              -12.34775, -12.51653, -10.87992]),
    2000: (11, [19.50683, 19.98956, -23.70176, -36.76049, -10.10474, 23.69958, 26.89467, -1.72272, -26.41646, -21.95524,
                1.20041, 13.84593, 6.54586]),
}  # fmt: skip


@pytest.mark.parametrize("samples", PUBLISHED_MFCC)
def test_mfcc_is_that_of_python_speech_features(samples):
    columns, last = PUBLISHED_MFCC[samples]
    cepstra = mfcc(decaying_chirp(samples), 16000)
    assert cepstra.shape == (13, columns) and cepstra.dtype == np.float32
    np.testing.assert_allclose(cepstra[:, -1], last, atol=1e-4)


def test_mfcc_of_silence_is_the_log_of_epsilon_and_of_nothing_one_such_frame():
    silent = mfcc(np.zeros(800, np.int16), 16000)
    assert silent.shape == (13, 4)
    np.testing.assert_allclose(silent[0], -36.04365, atol=1e-4)
    np.testing.assert_allclose(silent[1:], 0, atol=1e-4)
    assert mfcc(np.zeros(0, np.int16), 16000).shape == (13, 1)


def test_half_the_amplitude_lowers_the_energy_by_the_log_of_four_and_nothing_else():
    """Why floats in [-1, 1] are refused: the network would see another loudness in coefficient 0, and no other change."""
    sound = decaying_chirp(1600) // 2 * 2
    difference = mfcc(sound, 16000) - mfcc(sound // 2, 16000)
    np.testing.assert_allclose(difference[0], np.log(4), atol=1e-4)
    np.testing.assert_allclose(difference[1:], 0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
@pytest.mark.parametrize(("samples", "rate", "n_mels"), [(16123, 16000, 128), (1280, 16000, 64), (30000, 44100, 80)])
def test_mel_is_librosas(samples, rate, n_mels):
    import librosa

    sound = noise(samples)
    sound[samples // 2 :] //= 200
    power = librosa.feature.melspectrogram(
        y=sound / np.float32(32768), sr=rate, n_fft=2048, hop_length=160, n_mels=n_mels, fmax=8000
    )
    log_mel = np.maximum(librosa.power_to_db(power, ref=1.0, top_db=None), -80)
    expected = np.stack([log_mel, librosa.feature.delta(log_mel), librosa.feature.delta(log_mel, order=2)])
    mel = mel_3cs(sound, rate, n_mels)
    assert mel.shape == expected.shape == (3, n_mels, 1 + samples // 160) and mel.dtype == np.float16
    half_steps = np.spacing(np.abs(expected).astype(np.float16))  # float16 may round to either neighbour
    assert (np.abs(mel - expected) <= half_steps + 1e-4).all()


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 1279])
def test_short_sound_has_finite_mel(samples):
    mel = mel_3cs(noise(samples), 16000, 32)
    assert mel.shape == (3, 32, 1 + samples // 160) and np.isfinite(mel).all()


def test_440_hz_peaks_in_its_bin():
    import librosa

    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.int16)
    centre = librosa.mel_frequencies(130, fmin=0, fmax=8000)[1:-1]
    assert mel_3cs(tone, 16000, 128)[0, :, 50].argmax() == np.abs(centre - 440).argmin()


def test_silence_is_the_floor():
    np.testing.assert_array_equal(mel_floor(32, 1.5), mel_3cs(np.zeros(24000, np.int16), 16000, 32))


def test_deltas_are_slope_and_curvature():
    """Sound whose level rises steadily: the slope is its dB per step, the curvature none."""
    rising = noise(16000, level=20000) * 10 ** (np.arange(16000) / 160 * 0.3 / 20 - 1.5)
    mel = mel_3cs(rising.astype(np.int16), 16000, 16).astype(np.float32)[:, :, 10:-10]
    assert mel[1].mean() == pytest.approx(0.3, abs=0.05)
    assert abs(mel[2].mean()) < 0.02


def test_images_have_low_frequencies_at_the_bottom_and_time_to_the_right():
    mel = mel_floor(16, 0.5)
    mel[0, 0, -5:] = 40  # the lowest bin at the end
    images = mel_images(mel, 2, 32)
    assert images.shape == (3, 2, 32, 32) and images.dtype == np.float32
    assert images[0, 1, -1, -1] == 1 and images[0, 1, 0, -1] == -1
    assert (images[0, 0] == -1).all() and (images[1:] == 0).all()


def test_images_are_equal_stretches_within_bounds():
    mel = np.zeros((3, 8, 40), np.float16)
    mel[0] = np.repeat(np.linspace(-80, 40, 4), 10)
    mel[1], mel[2] = 99, -99
    images = mel_images(mel, 4, 8)
    np.testing.assert_allclose(images[0].mean((1, 2)), [-1, -1 / 3, 1 / 3, 1], atol=1e-2)
    assert (images[1] == 1).all() and (images[2] == -1).all()


@pytest.mark.parametrize("steps", [1, 3, 17])
def test_more_images_than_steps_are_none_empty(steps):
    assert np.isfinite(mel_images(np.zeros((3, 8, steps), np.float16), 16, 12)).all()


@pytest.mark.parametrize("audio", [np.zeros(100, np.float32), np.zeros((100, 2), np.int16)])
def test_other_sound_than_int16_mono_is_refused(audio):
    for feature in (lambda: mfcc(audio, 16000), lambda: mel_3cs(audio, 16000, 32)):
        with pytest.raises(ValueError, match=r"int16 \(N,\) mono was expected"):
            feature()


def decaying_chirp(samples: int) -> np.ndarray:
    t = np.arange(samples)
    return np.round(8000 * np.sin(t * t / 9000) * np.exp(-t / 3000)).astype(np.int16)


def noise(samples: int, level: float = 3000) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=samples).clip(-1.5, 1.5) * level).astype(np.int16)
