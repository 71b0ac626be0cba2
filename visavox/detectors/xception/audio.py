"""Xception over the sound: mel images of overlapping windows, each with a probability of its own.

N samples · W windows of a clip · F mel bins · M steps of 32 ms in a window · S side of the image in pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from visavox.bundle import Bundle
from visavox.config import Config, XceptionAudioConfig
from visavox.detectors.analysis import NOTHING, Analysis, Branch, Segment
from visavox.detectors.base import Detector
from visavox.detectors.scorer import Watch
from visavox.detectors.xception import fusion
from visavox.detectors.xception.network import at_once, fake_logit, image_network, load_published, pool
from visavox.progress import Stopwatch
from visavox.training.strata import choose

N_FFT = 2048
HOP = 512
LOWEST_HZ, HIGHEST_HZ = 20.0, 8000.0
FULL_ENOUGH = 0.8
"""Share of a window that has to hold sound; a shorter rest at the end is not heard, unless it is all there is."""


class Windows(NamedTuple):
    """Windows of one clip, or of B once collated."""

    images: Tensor
    """(W, S, S) float32: mel in dB, each window of mean 0 and deviation 1."""
    heard: Tensor
    """() bool: whether the clip has sound."""


class XceptionAudio(Detector):
    """timm's Xception on three equal channels of a mel image, and a head of 2048 -> 512 -> 256 -> 2.

    A clip without sound has logit 0, P(fake) = 0.5: nothing was heard, so nothing is said, and nothing learnt from it.
    """

    settings: XceptionAudioConfig
    needs_track = True

    def __init__(self, config: Config, settings: XceptionAudioConfig) -> None:
        super().__init__(config, settings)
        self.base = image_network(settings.backbone, classes=0)
        (first, second), (drop_first, drop_second) = settings.hidden, settings.dropout
        self.classifier = nn.Sequential(
            *(nn.Linear(self.base.num_features, first), nn.BatchNorm1d(first), nn.ReLU(), nn.Dropout(drop_first)),
            *(nn.Linear(first, second), nn.BatchNorm1d(second), nn.ReLU(), nn.Dropout(drop_second)),
            nn.Linear(second, 2),
        )

    def start_from(self, checkpoint: Any) -> str:
        """ImageNet weights, `best_audio_xception.pth` of Mbulss/Deepfake-Detecetor, or an earlier run's."""
        return load_published(self, checkpoint, backbone="base.", head="classifier.8")

    def prepare(self, bundle: Bundle, rng: np.random.Generator | None = None) -> Windows:
        """`detector.windows` of the clip's windows, one of each of as many equal stretches; with `rng` with SpecAugment."""
        mels = self._mels(bundle)  # (W, F, M)
        count, wanted = len(mels), self.settings.windows
        if count == 0:
            size = self.settings.size
            return Windows(torch.zeros(wanted, size, size), torch.tensor(False))
        mels = mels[choose(count, wanted, rng)]
        if rng is not None and self.config.augment:
            mels = np.stack([spec_augment(mel, rng) for mel in mels])
        return Windows(torch.from_numpy(images(mels, self.settings.size)), torch.tensor(True))

    def forward(self, clip: Windows) -> Tensor:
        """images (B, W, S, S), heard (B,) -> (B,) logits, higher = more fake; 0 where nothing was heard."""
        B = clip.images.shape[0]
        logits = self.window_logits(clip.images.flatten(0, 1)).unflatten(0, (B, -1))  # (B, W)
        pooled = pool(logits, self.settings.pooling, self.settings.top_k)  # (B,)
        return pooled.where(clip.heard, 0.0)

    def window_logits(self, mels: Tensor) -> Tensor:
        """Mel images (W, S, S) float32 -> (W,) logits."""
        pictures = mels.unsqueeze(1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        features = self.base(pictures)  # (W, 2048)
        with torch.autocast(features.device.type, enabled=False):  # bf16 would give many windows equal logits
            return fake_logit(self.classifier(features.float()))

    def hear(self, bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
        """Every window of a clip: starts (W,) in seconds of the video's clock, logits (W,) float64; both empty without sound."""
        self.eval()
        mels = self._mels(bundle)
        starts = float(bundle.times[0]) + window_starts(len(mels), self.settings.window, self.settings.overlap)
        return starts, self._logits_of(mels)

    def hear_sound(self, sound: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """As `hear`, for sound (N,) int16 that has no video beside it."""
        self.eval()
        settings = self.settings
        mels = mel_windows(sound, rate, settings.n_mels, settings.window, settings.overlap)
        return window_starts(len(mels), settings.window, settings.overlap), self._logits_of(mels)

    def score(self, bundles: Sequence[Bundle]) -> np.ndarray:
        """Return P(fake) of bundles, (N,) float64, pooled from all windows of each; 0.5 for those without sound."""
        return np.array([self._pooled(self.hear(bundle)[1]) for bundle in bundles])

    def explain(self, bundle: Bundle, watch: Watch | None = None) -> Analysis:
        """Return the analysis of one clip: a segment of the time line for each window of sound; they overlap."""
        took = Stopwatch()
        with took("sound"):
            starts, logits = self.hear(bundle)
        seconds = took.total()
        if watch:
            watch("audio", seconds)
        p, heard = self._pooled(logits), len(logits) > 0
        timeline = [
            Segment(round(float(start), 3), round(float(start) + self.settings.window, 3), float(each))
            for start, each in zip(starts, fusion.sigmoid(logits))
        ]
        return Analysis.of(
            p,
            card=self.card_of(bundle),
            branches=[Branch("audio", p if heard else None, 1.0 if heard else 0.0, seconds, timeline)],
            timeline=timeline,
            notes=["The faces were not judged."] if heard else ["No sound: there is nothing to judge by."],
            undecided="" if heard else NOTHING,
            settings=self.settings.model_dump(mode="json"),
        )

    def _pooled(self, logits: np.ndarray) -> float:
        """Logits (W,) float64 of a clip's windows -> its P(fake)."""
        if not len(logits):
            return 0.5
        pooled = pool(torch.from_numpy(logits), self.settings.pooling, self.settings.top_k)
        return torch.sigmoid(pooled).item()

    def _mels(self, bundle: Bundle) -> np.ndarray:
        """(W, F, M) float32; W = 0 without sound."""
        settings = self.settings
        if bundle.audio is None:
            raise ValueError("this bundle was loaded without its audio; use Bundle.load(path, full=True)")
        sound = bundle.audio if bundle.status == "ok" else np.zeros(0, np.int16)
        return mel_windows(sound, self.config.resample_rate, settings.n_mels, settings.window, settings.overlap)

    def _logits_of(self, mels: np.ndarray) -> np.ndarray:
        settings = self.settings
        step = at_once(settings.chunk, settings.size, self.device)
        with torch.inference_mode():
            logits = [
                self.window_logits(torch.from_numpy(images(part, settings.size)).to(self.device)).double().cpu()
                for part in np.split(mels, range(step, len(mels), step))
                if len(part)
            ]
        return torch.cat(logits).numpy() if logits else np.zeros(0)


def mel_windows(sound: np.ndarray, rate: int, n_mels: int, window: float, overlap: float) -> np.ndarray:
    """Mel in dB of every window, from one STFT of the whole: sound (N,) int16 -> (W, F, M) float32, W = 0 for N = 0.

    librosa's `melspectrogram` (n_fft 2048, hop 512, 20 to 8000 Hz, Slaney) and `power_to_db` (reference 1, 80 dB range).
    A window begins at the nearest step of the STFT, at most 16 ms off. Its outer steps see the sound beyond its ends,
    where a window cut out first would see zeros.
    """
    if not len(sound):
        return np.zeros((0, n_mels, 1), np.float32)
    length, stride = round(window * rate), window * rate * (1 - overlap)
    count = 1 + max(0, int((len(sound) - FULL_ENOUGH * length) // stride))
    samples = max(len(sound), int((count - 1) * stride) + length)
    signal = torch.zeros(samples)
    signal[: len(sound)] = torch.from_numpy(sound.astype(np.float32) / 32768)
    spectrum = torch.stft(
        signal, N_FFT, HOP, window=torch.hann_window(N_FFT), center=True, pad_mode="constant", return_complex=True
    )
    # numpy's product, not torch's: under the autocast of scoring that would be bf16
    power = _mel_bank(rate, n_mels) @ spectrum.abs().square().numpy()  # (F, all steps)
    steps = 1 + length // HOP
    starts = np.round(np.arange(count) * stride / HOP).astype(int)
    power = np.pad(power, ((0, 0), (0, max(0, starts[-1] + steps - power.shape[1]))))
    mels = 10 * np.log10(np.maximum(np.stack([power[:, a : a + steps] for a in starts]), 1e-10))
    return np.maximum(mels, mels.max(axis=(1, 2), keepdims=True) - 80).astype(np.float32)


def window_starts(count: int, window: float, overlap: float) -> np.ndarray:
    """Seconds from the start of the sound at which its windows begin: (W,) float64."""
    return np.arange(count) * window * (1 - overlap)


def images(mels: np.ndarray, size: int) -> np.ndarray:
    """Mel windows (W, F, M) in dB -> (W, size, size) float32, each of mean 0 and deviation 1, bilinear; low bins on top."""
    mean, std = mels.mean(axis=(1, 2), keepdims=True), mels.std(axis=(1, 2), keepdims=True)
    standard = (mels - mean) / (std + 1e-8)
    return np.stack([cv2.resize(mel, (size, size), interpolation=cv2.INTER_LINEAR) for mel in standard])


def spec_augment(mel: np.ndarray, rng: np.random.Generator, *, bands: float = 0.15, steps: float = 0.15) -> np.ndarray:
    """Two stretches of bins and two of time set to the mean (Park et al., 2019): mel (F, M) -> a copy, (F, M).

    Args:
        bands: widest stretch of bins, as a share of F; its width is uniform from 0.
        steps: widest stretch of time, as a share of M.
    """
    mel = mel.copy()
    blank = mel.mean()
    for axis, share in ((0, bands), (1, steps), (0, bands), (1, steps)):
        width = int(rng.integers(0, max(1, int(share * mel.shape[axis])) + 1))
        start = int(rng.integers(0, mel.shape[axis] - width + 1))
        np.moveaxis(mel, axis, 0)[start : start + width] = blank
    return mel


@lru_cache
def _mel_bank(rate: int, n_mels: int) -> np.ndarray:
    """(F, 1 + N_FFT // 2) float32."""
    import librosa

    top = min(HIGHEST_HZ, rate / 2)
    return librosa.filters.mel(sr=rate, n_fft=N_FFT, n_mels=n_mels, fmin=LOWEST_HZ, fmax=top)
