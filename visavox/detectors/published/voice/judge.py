"""DeepFense's voice detector as a judge of videos: windows of four seconds of the sound, the mean of their probabilities.

Its makers judge the first four seconds of a recording; a longer sound is judged here by more windows of the same length.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from visavox.detectors.analysis import Analysis, Branch, ModelCard, Segment
from visavox.detectors.judging import ModelError
from visavox.detectors.published.voice.network import LARGE, Size, VoiceNetwork, published_names
from visavox.detectors.scorer import Watch
from visavox.preprocessing.stills import is_picture
from visavox.preprocessing.voice_input import NoVoiceError, VoiceInput, heard
from visavox.progress import Stopwatch
from visavox.weights import WeightsError, find, loading

INPUT = VoiceInput(16000, 64000)
"""As its configuration sets it (`pad` with max_len 64000, pad_type repeat; label_map bonafide 1, spoof 0)."""
WINDOWS = 8
"""Judged at most, spread over the sound: 32 seconds."""
LONGEST = 600.0
"""Seconds of a video that are listened to, as many as pictures are taken from."""
FAINTEST = 33
"""Largest int16 sample below which a window counts as silent: -60 dB of full scale."""


def network(name: str, size: Size = LARGE) -> VoiceNetwork:
    """Return the network with a published file of the registry in it, ready to score.

    Raises:
        WeightsError: the file is missing or does not fit.
        MissingExtraError: transformers is not installed.
    """
    fake = find(name).fake_index
    if fake is None:
        raise WeightsError(f"{name}: the registry does not say which class means fake")
    net = VoiceNetwork(fake, size)
    loading.fit(net, published_names(loading.state_dict(name)), what=name)
    return net.eval()


class VoiceJudge:
    """Judge a video by its sound.

    Args:
        network: (B, N) float32 -> (B,) logits, higher = more fake.
    """

    notes = ("Voices are judged in windows of four seconds, whoever speaks; the face is not looked at.",)

    def __init__(
        self, card: ModelCard, network: Callable[[Tensor], Tensor], device: torch.device | str = "cpu", threads: int = 0
    ) -> None:
        self.card, self.network, self.device, self.threads = card, network, torch.device(device), threads
        self.name = card.detector

    def __call__(self, path: str | Path, *, watch: Stopwatch | None = None, ended: Watch | None = None) -> Analysis:
        """Judge one video.

        Args:
            watch: books the seconds of the stages decode and models.
            ended: told of the network once it has run.

        Raises:
            MediaError: it cannot be read.
            NoVoiceError: it has no sound, or a silent one.
            ModelError: a picture.
        """
        if is_picture(path):
            raise ModelError(f"{path}: {self.name} judges voices, and a picture has no sound")
        watch = watch or Stopwatch()
        before = watch.seconds.get("models", 0.0)  # judges that are fused book on one stopwatch
        with watch("decode"):
            sound, noticed = heard(path, INPUT.rate, LONGEST, self.threads)
        if sound is None or not len(sound):
            raise NoVoiceError("the video has no sound")
        starts = [at for at in INPUT.starts(len(sound), WINDOWS) if _loudest(_part(sound, at)) >= FAINTEST]
        if not starts:
            raise NoVoiceError(
                f"no sample of its sound reaches {20 * np.log10(FAINTEST / 32768):.0f} dB of full scale: silence"
            )
        with watch("models"):
            p = self._probabilities([INPUT(_part(sound, at)) for at in starts])  # (n,)
        took = watch.seconds["models"] - before
        if ended:
            ended(self.name, took)
        probability, end = float(p.mean()), len(sound) / INPUT.rate
        timeline = [
            Segment(at / INPUT.rate, round(min((at + INPUT.samples) / INPUT.rate, end), 3), float(each))
            for at, each in zip(starts, p)
        ]
        return Analysis.of(
            probability,
            card=self.card,
            branches=[Branch(self.name, probability, 1.0, took, timeline)],
            timeline=timeline,
            notes=[*self.notes, *noticed],
            settings={"windows": len(starts), "seconds": INPUT.samples / INPUT.rate},
        )

    @torch.inference_mode()
    def _probabilities(self, windows: list[np.ndarray]) -> np.ndarray:
        """(samples,) float32 each -> (n,) float64 P(fake), one after the other: WavLM's attention is large."""
        logits = [self.network(torch.from_numpy(window)[None].to(self.device)) for window in windows]
        return torch.sigmoid(torch.cat(logits).double()).cpu().numpy()


def _part(sound: np.ndarray, at: int) -> np.ndarray:
    return sound[at : at + INPUT.samples]


def _loudest(sound: np.ndarray) -> int:
    return int(np.abs(sound.astype(np.int32)).max())


def judge(card: ModelCard, name: str, device: torch.device, threads: int = 0) -> VoiceJudge:
    """Return the judge of a published file of the registry."""
    return VoiceJudge(card, network(name).to(device), device, threads)
