"""What a backbone is, and what several of them need.

L frames of a track at 25 fps · S side in pixels · N samples · T steps · U steps of the sound · D width of a feature
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from visavox.detectors.td3mf.network import AudioInput

FPS = 25
WINDOW = 1.0
"""Seconds of sound that one audio feature hears."""

State = Mapping[str, Tensor]
Frame = Callable[[int], np.ndarray]
"""Gives image t of a track, (S, S, 3) uint8 RGB."""


@runtime_checkable
class Backbone(Protocol):
    """A frozen network, or a fixed transform, that turns frames or sound into features."""

    name: str
    dim: int
    """D."""
    sample_rate: int
    """Samples per second of the sound it hears; frames per second of the track for video."""
    parts: dict[str, nn.Module]
    """Its networks by the registry entries of their published weights; a size without published weights has other names."""

    @property
    def kind(self) -> Literal["video", "audio"]:
        """Whether it sees or hears."""

    def named(self, part: str, state: State) -> tuple[State, tuple[str, ...]]:
        """Return the parameters of a published file under the names of `parts[part]`, and patterns of those it may ignore."""

    def encode(self, inputs: Tensor) -> Tensor:
        """What `inputs` gives, (n, ...) on the network's device -> (n, D), of EAT the mean of all patches; with gradients."""


class VideoBackbone(Backbone, Protocol):
    """A backbone that sees."""

    step: float
    """Seconds from one feature to the next."""

    def inputs(self, frame: Frame, count: int, steps: int) -> np.ndarray:
        """Return what the network is given of at most `steps` steps of a track of `count` frames: (n, ...), n >= 1."""

    def features(self, frame: Frame, count: int, steps: int) -> np.ndarray:
        """Return features of at most `steps` steps of a track of `count` frames, (n, D) float32, n >= 1."""


class AudioBackbone(Backbone, Protocol):
    """A backbone that hears."""

    def inputs(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        """Return what the network is given of sound, (n, ...) float32; arguments as for `features`. EAT: one picture."""

    def features(self, audio: np.ndarray, starts: Sequence[float]) -> np.ndarray:
        """Return features of sound.

        Args:
            audio: (N,) float32 in [-1, 1] at `sample_rate`.
            starts: seconds at which the windows of one second begin. EAT hears ten seconds at once and does not ask.

        Returns:
            (n, D) float32, or (n, D, W) for MFCC.
        """

    def input(self, steps: int) -> AudioInput:
        """Return what the fusion network expects of it for a video of `steps` steps."""


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def step_by_step(backbone: VideoBackbone, frame: Frame, count: int, steps: int, device: torch.device) -> np.ndarray:
    """Return `features` of a backbone that sees, a step at a time: a step's result does not depend on the others."""
    inputs = torch.from_numpy(backbone.inputs(frame, count, steps))
    with torch.inference_mode():
        return torch.cat([backbone.encode(step[None].to(device)) for step in inputs]).float().cpu().numpy()


def windows(audio: np.ndarray, rate: int, starts: Sequence[float]) -> np.ndarray:
    """Return one second of sound from each start, zeros beyond the end: audio (N,) float32 -> (n, rate) float32."""
    length = round(WINDOW * rate)
    firsts = [round(start * rate) for start in starts]
    padded = np.pad(audio, (0, max([0, *(first + length - len(audio) for first in firsts)])))
    return np.stack([padded[first : first + length] for first in firsts]).astype(np.float32)


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Return an image of another side, (S, S, 3) uint8 -> (size, size, 3) uint8; the image itself if it has it already."""
    import cv2

    if image.shape[:2] == (size, size):
        return image
    shrinks = image.shape[0] > size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
