"""Constant-Q cepstra against librosa, against numbers of the ASVspoof 2021 toolbox, and as facts of the signal."""

import numpy as np
import pytest

from visavox.features import cqcc as room
from visavox.features.cqcc import ASVSPOOF2019, ASVSPOOF2021, RECIPES, SEED, cqcc

# asvspoof-challenge/2021, LA/Baseline-CQCC-GMM/python, cqt(..., 'rasterize', 'full', 'gamma', 228.7 Q) on `short_chirp`:
# shape, some magnitudes by bin and step, and the sum of all.
PUBLISHED = {
    "asvspoof2019": (
        (863, 29),
        {(0, 0): 0.005696403, (431, 3): 0.018054788, (862, 14): 6.33e-07, (647, 9): 0.005557696},
        146.06686555246225,
    ),
    "asvspoof2021": (
        (73, 122),
        {(0, 0): 0.014024515, (36, 3): 0.004512054, (72, 61): 1.432e-06, (54, 40): 0.00065126},
        78.21906280587234,
    ),
}


def short_chirp() -> np.ndarray:
    time = np.arange(4000) / 16000
    return np.round(8000 * np.sin(2 * np.pi * (100 * time + 6000 * time**2))).astype(np.int16)


def chirp(seconds: float = 2.0) -> np.ndarray:
    """50 to 6000 Hz."""
    time = np.arange(round(seconds * 16000)) / 16000
    return (8000 * np.sin(2 * np.pi * (50 * time + 5950 / (2 * seconds) * time**2))).astype(np.int16)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_gabor_transform_is_that_of_the_asvspoof_toolbox(name):
    shape, some, total = PUBLISHED[name]
    found = room.constant_q(short_chirp() / 32768, 16000, RECIPES[name])
    assert found.shape == shape
    np.testing.assert_allclose([found[place] for place in some], list(some.values()), atol=1e-9)
    np.testing.assert_allclose(found.sum(), total, rtol=1e-12)


def test_a_sine_has_magnitude_one_in_its_own_bin():
    bin_ = 96 * 6
    hertz = ASVSPOOF2019.lowest * 2**6
    tone = np.sin(2 * np.pi * hertz * np.arange(32000) / 16000)
    found = room.constant_q(tone, 16000, ASVSPOOF2019)[:, 100]
    assert found.argmax() == bin_ and abs(found[bin_] - 1) < 0.01


def test_the_seed_s_recipe_is_librosa_s():
    import librosa
    from scipy.fft import dct

    audio = chirp()
    signal = audio.astype(np.float32) / 32768
    power = np.abs(librosa.cqt(signal, sr=16000, hop_length=256, fmin=20.0, n_bins=96, bins_per_octave=12)) ** 2
    static = dct(np.log(power + 1e-12), type=2, axis=0, norm="ortho")[:30]
    slopes = [librosa.feature.delta(static, order=order) for order in (1, 2)]
    found = cqcc(audio, 16000, SEED)
    assert found.shape == (90, 126)
    np.testing.assert_allclose(found, np.concatenate([static, *slopes]), atol=1e-3)


def test_cepstra_of_the_asvspoof_recipe_are_those_of_the_resampled_spectrum():
    """One matrix does what a spline to uniform frequencies and a cosine transform do."""
    from scipy.fft import dct
    from scipy.interpolate import CubicSpline

    audio = short_chirp()
    log_power = np.log(room.constant_q(audio / 32768, 16000, ASVSPOOF2019) ** 2 + 2.2204e-16)
    hertz = ASVSPOOF2019.lowest * 2 ** (np.arange(863) / 96)
    uniform = np.arange(hertz[0], hertz[-1], ASVSPOOF2019.lowest / 16)
    assert len(uniform) == 8059
    wanted = dct(CubicSpline(hertz, log_power)(uniform), type=2, axis=0, norm="ortho")[:30]
    found = cqcc(audio, 16000, ASVSPOOF2019)
    np.testing.assert_allclose(found[:30], wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("how", ["savgol9", "htk3"])
def test_deltas_are_slopes_over_time(how):
    ramp = np.arange(30.0) * np.array([[2.0], [-0.5]])
    inner = slice(6, -6)
    np.testing.assert_allclose(room.derivative(ramp, how, 1)[:, inner], np.full((2, 18), [[2.0], [-0.5]]), atol=1e-9)
    np.testing.assert_allclose(room.derivative(ramp, how, 2)[:, inner], 0, atol=1e-9)
    parabola = np.arange(30.0)[None] ** 2
    np.testing.assert_allclose(room.derivative(parabola, how, 2)[:, inner], 2, atol=1e-9)
    assert room.derivative(ramp[:, :3], "savgol9", 1).shape == (2, 3)


@pytest.mark.parametrize(("recipe", "rows"), [(SEED, 90), (ASVSPOOF2019, 90), (ASVSPOOF2021, 60)])
def test_short_and_silent_sound_has_cepstra(recipe, rows):
    for audio in (np.zeros(0, np.int16), np.zeros(5000, np.int16), chirp()[:100]):
        found = cqcc(audio, 16000, recipe)
        assert found.shape[0] == rows and found.dtype == np.float32 and np.isfinite(found).all()


def test_wrong_sound_is_refused_with_what_was_expected():
    with pytest.raises(ValueError, match="int16"):
        cqcc(np.zeros(100, np.float32), 16000)
    with pytest.raises(ValueError, match="need a rate of 16000"):
        cqcc(np.zeros(100, np.int16), 8000, ASVSPOOF2019)
