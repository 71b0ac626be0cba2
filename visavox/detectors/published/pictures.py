"""A network for pictures as a judge of videos: some frames, each judged by itself, the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from visavox.detectors.analysis import Analysis, Branch, ModelCard, Segment
from visavox.detectors.scorer import Watch
from visavox.preprocessing.picture_input import PictureInput
from visavox.preprocessing.pipeline import CropError
from visavox.preprocessing.stills import Stills
from visavox.progress import Stopwatch

BATCH = 8
"""Pictures that go through the network at once."""


class Part(Protocol):
    """What of a frame is judged, such as an aligned face."""

    def __call__(self, frame: np.ndarray) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB -> the same kind of picture, or None where the frame does not show it."""


class PictureJudge:
    """Judge a video by some of its frames, or a picture.

    Args:
        network: (n, 3, S, S) float32 -> (n,) logits, higher = more fake.
        wanted: how a picture becomes the network's input.
        frames: of a video, spread over its length.
        part: what of a frame is judged; None: all of it.
        notes: what is to be said of every verdict.
    """

    def __init__(
        self,
        card: ModelCard,
        network: Callable[[Tensor], Tensor],
        wanted: PictureInput,
        *,
        frames: int = 32,
        part: Part | None = None,
        device: torch.device | str = "cpu",
        notes: tuple[str, ...] = (),
        threads: int = 0,
    ) -> None:
        self.card, self.network, self.wanted, self.frames, self.part = card, network, wanted, frames, part
        self.device, self.notes, self.threads = torch.device(device), notes, threads
        self.name = card.detector

    def __call__(self, path: str | Path, *, watch: Stopwatch | None = None, ended: Watch | None = None) -> Analysis:
        """Judge one file.

        Args:
            watch: books the seconds of the stages decode, prepare and models.
            ended: told of the network once it has run.

        Raises:
            MediaError: it cannot be read.
            CropError: none of the frames shows what is judged.
        """
        watch = watch or Stopwatch()
        before = _of_network(watch)  # judges that are fused book on one stopwatch
        seconds, inputs, stills = self.pictures(path, watch)
        with watch("models"):
            p = self.probabilities(inputs)  # (n,)
        notes = [*self.notes, *stills.notes]
        if len(inputs) < stills.given:
            notes.append(f"{stills.given - len(inputs)} of {stills.given} frames show no face and were left out.")
        timeline = [] if stills.is_picture else _segments(seconds, p, stills.seconds)
        probability = float(p.mean())
        took = _of_network(watch) - before
        if ended:
            ended(self.name, took)
        return Analysis.of(
            probability,
            card=self.card,
            branches=[Branch(self.name, probability, 1.0, took, timeline)],
            timeline=timeline,
            notes=notes,
            settings={"frames": self.frames, "judged": len(inputs)},
        )

    def pictures(self, path: str | Path, watch: Stopwatch | None = None) -> tuple[list[float], list[Tensor], Stills]:
        """Return second and input (3, S, S) of every picture that shows what is judged, and what they were taken from.

        Raises:
            MediaError: it cannot be read.
            CropError: none of the frames shows what is judged.
        """
        watch = watch or Stopwatch()
        stills = Stills(path, self.frames, threads=self.threads)
        inputs, seconds = [], []
        for second, frame in watch.each("decode", stills):
            with watch("prepare"):
                picture = frame if self.part is None else self.part(frame)
                if picture is not None:
                    inputs.append(self.wanted(picture))
                    seconds.append(second)
        if not inputs:
            raise CropError("no_face", f"none of {stills.given} frames shows a face")
        return seconds, inputs, stills

    @torch.inference_mode()
    def probabilities(self, inputs: list[Tensor]) -> np.ndarray:
        """(3, S, S) each -> (n,) float64 P(fake)."""
        batches = [torch.stack(inputs[start : start + BATCH]) for start in range(0, len(inputs), BATCH)]
        logits = torch.cat([self.network(batch.to(self.device)) for batch in batches])
        return torch.sigmoid(logits.double()).cpu().numpy()


def _of_network(watch: Stopwatch) -> float:
    return sum(watch.seconds.get(stage, 0.0) for stage in ("prepare", "models"))


def _segments(seconds: list[float], p: np.ndarray, end: float) -> list[Segment]:
    """One segment per frame, from halfway to the frame before to halfway to the next."""
    middles = [(a + b) / 2 for a, b in zip(seconds, seconds[1:])]
    edges = [0.0, *middles, max(end, seconds[-1])]
    return [
        Segment(round(float(start), 3), round(float(stop), 3), float(each))
        for start, stop, each in zip(edges, edges[1:], p)
    ]
