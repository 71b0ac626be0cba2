"""Faces in frames: batches of frames in, boxes, scores and landmarks in the frames' own pixels out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visavox.faces.detection import FAINT, Detections
from visavox.faces.retinaface.anchors import anchors, decode_boxes, decode_landmarks
from visavox.faces.retinaface.network import NetworkName, Predictions, fold, load_published


@dataclass(frozen=True)
class Preprocessing:
    """How frames become the input that a set of weights was trained on."""

    color: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]  # of 0..255, in the order of `color`
    std: tuple[float, float, float]
    pad_square: bool  # centred on a max_size square, padded with the mean colour
    min_size: int | None  # frames whose longer side is below it are enlarged to it; None: always to max_size


BGR_MEAN = Preprocessing("bgr", (104.0, 117.0, 123.0), (1.0, 1.0, 1.0), pad_square=False, min_size=320)
"""Both weights of biubug6/Pytorch_Retinaface (detect.py), which enlarges nothing (min_size=1).

With its MobileNet0.25, frames of talking faces shrunk to 160 pixels have a face above 0.9 in 97 % of cases as they are
and in 100 % enlarged to 320; of 64 pixels, 80 % and 100 %. Above 256 pixels both find all.
"""

IMAGENET_RGB_SQUARE = Preprocessing(
    "rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), pad_square=True, min_size=None
)
"""The release resnet50_2020-07-20 of ternaus/retinaface (predict_single.py of its first versions)."""

PUBLISHED_PREPROCESSING = {"mobilenet0.25": BGR_MEAN, "resnet50": IMAGENET_RGB_SQUARE}


class RetinaFaceDetector:
    """RetinaFace over batches of frames; the weights come from the caller and are loaded strictly.

    Frames whose longer side exceeds `max_size` pixels are shrunk to it, very small ones enlarged (see `Preprocessing`).
    Faces scored above `threshold` are kept after non-maximum suppression at an IoU of `nms_threshold`, those above FAINT
    times the threshold as `faint`. `preprocessing`
    defaults to that of the network's registered weights: BGR_MEAN for mobilenet0.25, IMAGENET_RGB_SQUARE for resnet50.
    biubug6's own Resnet50 weights have the parameter names and shapes of ternaus', so that nothing in the file tells
    them apart: pass BGR_MEAN for them. `batch_size` None is 8 frames, on a GPU 32. In `dtype` bfloat16 the network alone is
    computed; boxes are decoded in float32.
    """

    landmark_source = "retinaface"

    def __init__(
        self,
        network: NetworkName,
        state_dict: Mapping[str, Tensor],
        *,
        max_size: int = 640,
        threshold: float = 0.9,
        nms_threshold: float = 0.4,
        batch_size: int | None = None,
        device: str | torch.device = "cpu",
        preprocessing: Preprocessing | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = torch.device(device)
        batch_size = (32 if self.device.type == "cuda" else 8) if batch_size is None else batch_size
        if max_size < 1 or batch_size < 1:
            raise ValueError(f"max_size is {max_size} and batch_size {batch_size}; both must be at least 1")
        self.name = f"retinaface_{network}"
        self.network = fold(load_published(network, state_dict)).to(self.device, dtype)
        self.dtype = dtype
        self.preprocessing = preprocessing or PUBLISHED_PREPROCESSING[network]
        self.max_size = max_size
        self.threshold = threshold
        self.nms_threshold = nms_threshold
        self.batch_size = batch_size

    def to(self, device: torch.device) -> RetinaFaceDetector:
        """Move the network to a device and return the detector."""
        self.network.to(device)
        self.device = device
        return self

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """Return the faces of each frame (H, W, 3) uint8 RGB, in order; neighbours of one size go as one batch."""
        for frame in frames:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
                raise ValueError(f"a frame is {frame.shape} {frame.dtype}; expected (H, W, 3) uint8 RGB")
        return [found for batch in self._batches(frames) for found in self._detect_batch(batch)]

    def _batches(self, frames: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        for _, equal in groupby(frames, key=lambda frame: frame.shape):
            run = list(equal)
            yield from (run[start : start + self.batch_size] for start in range(0, len(run), self.batch_size))

    @torch.inference_mode()
    def _detect_batch(self, frames: list[np.ndarray]) -> list[Detections]:
        """Frames of one size -> their faces."""
        images, left, top, factors = self._network_input(frames)
        predictions = Predictions(*(values.float() for values in self.network(images.to(self.dtype))))
        scores = predictions.logits.softmax(dim=-1)[..., 1]  # (B, P)
        which, place = (scores > FAINT * self.threshold).nonzero(as_tuple=True)  # (L,): few of P are worth decoding
        priors = anchors(*images.shape[-2:], device=self.device)[place]  # (L, 4)
        boxes = decode_boxes(predictions.boxes[which, place], priors)  # (L, 4)
        points = decode_landmarks(predictions.landmarks[which, place], priors)  # (L, 5, 2)
        certain = scores[which, place, None]  # (L, 1)
        found = torch.cat([which[:, None], certain, boxes, points.flatten(1)], dim=1).cpu().numpy()  # (L, 16)
        origin, scale = np.array([left, top], np.float32), np.array(factors, np.float32)
        faces = []
        for frame in range(len(frames)):
            rows = found[found[:, 0] == frame, 1:]  # (l, 15)
            rows = rows[suppress(rows[:, 1:5], rows[:, 0], self.nms_threshold)]
            corners = (rows[:, 1:].reshape(-1, 7, 2) - origin) / scale
            found_here = Detections(corners[:, :2].reshape(-1, 4), rows[:, 0], corners[:, 2:])
            faces.append(found_here.parted(self.threshold))
        return faces

    def _network_input(self, frames: list[np.ndarray]) -> tuple[Tensor, int, int, tuple[float, float]]:
        """Frames of one size -> images (B, 3, h, w) float32, their left and top padding, resize factors of x and y."""
        spec = self.preprocessing
        height, width = frames[0].shape[:2]
        frames = [fitted(frame, self.max_size, spec.min_size) for frame in frames]
        pixels = torch.from_numpy(np.stack(frames)).to(self.device)  # (B, h, w, 3) uint8 RGB
        if spec.color == "bgr":
            pixels = pixels.flip(-1)
        mean, std = torch.tensor((spec.mean, spec.std), device=self.device)
        images = ((pixels - mean) / std).permute(0, 3, 1, 2)  # (B, 3, h, w), channels-last in memory
        h, w = images.shape[-2:]
        left = top = 0
        if spec.pad_square:
            spare_x, spare_y = self.max_size - w, self.max_size - h
            left, top = spare_x // 2, spare_y // 2
            images = F.pad(images, (left, spare_x - left, top, spare_y - top))
        return images, left, top, (w / width, h / height)


def fitted(frame: np.ndarray, max_size: int, min_size: int | None) -> np.ndarray:
    """A frame (H, W, 3) uint8 with its longer side between min_size (None: max_size) and max_size pixels."""
    height, width = frame.shape[:2]
    longer = max(height, width)
    factor = min(max(longer, min_size or max_size), max_size) / longer
    if factor == 1:
        return frame
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Non-maximum suppression: boxes (N, 4) xyxy, scores (N,) -> positions (M,) int64 of those kept, the best first.

    OpenCV's, which is here anyway: torchvision's has to be paid with a second of import and 170 MB in each worker.
    """
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)
    kept = cv2.dnn.NMSBoxes(cast(Any, corner_and_size), cast(Any, scores), 0.0, threshold)  # the stubs know no arrays
    return np.asarray(kept, np.int64).reshape(-1)
