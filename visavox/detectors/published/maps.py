"""Where in a picture a network saw what it says, and whether that is so: gradients, tried by deletion and insertion.

for seen in maps(judge, "clip.mp4", analysis):
    seen.png, seen.caption

The map is by integrated gradients (Sundararajan et al., 2017; captum, extra `explain`). Its cells are then blurred,
the heaviest first (deletion), and shown in that order on a blurred picture (insertion; Petsiuk et al., 2018). A map that tells
where the network looks makes the probability of the verdict fall, and rise, earlier than cells in random order do.

S side in pixels of what the network sees · G cells a side · n pictures
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from visavox.detectors.judging import ModelError
from visavox.detectors.published.pictures import PictureJudge
from visavox.detectors.single import HouseJudge
from visavox.detectors.xception.scorer import FusedScorer
from visavox.detectors.xception.video import XceptionVideo
from visavox.preprocessing.picture_input import HALVES, PictureInput

if TYPE_CHECKING:
    from visavox.detectors.analysis import Analysis
    from visavox.detectors.judging import Judge

CELLS = 14
"""G: a network for 224 pixels in patches of 16 has as many."""
PATH = 8
"""Steps of the integral."""
STEPS = 8
"""Shares of the cells that are blurred or shown, between none and all."""
ORDERS = 3
"""Random orders that the map's is compared with."""


@dataclass(frozen=True)
class Faithfulness:
    """Mean probability of the verdict while cells are blurred or shown, over all shares from none to all."""

    deletion: float
    """The heaviest first; lower is better."""
    insertion: float
    """The heaviest first; higher is better."""
    random_deletion: tuple[float, ...]
    """In random orders, one after the other."""
    random_insertion: tuple[float, ...]

    @property
    def holds(self) -> bool:
        """Whether both are better than in every one of the random orders."""
        return self.deletion < min(self.random_deletion) and self.insertion > max(self.random_insertion)


@dataclass(frozen=True)
class Map:
    """One picture with its map."""

    branch: str
    second: float
    """Of the video; 0 for a picture."""
    probability: float
    """P(fake) of this picture."""
    cells: np.ndarray
    """(G, G) float32 from 0 to 1: what speaks for the verdict."""
    faithfulness: Faithfulness
    png: bytes
    """What the network sees, with the map over it."""

    @property
    def caption(self) -> str:
        """What is seen, and how far it is to be trusted."""
        tried = self.faithfulness
        verdict = "It holds" if tried.holds else "It tells no more than chance"
        return (
            f"{self.branch}, second {self.second:.1f}, P(fake) {self.probability:.3f}: where the network looks "
            f"(integrated gradients). {verdict}: probability of what is said, the heaviest cells blurred first "
            f"{tried.deletion:.3f}, in random order {np.mean(tried.random_deletion):.3f}; shown first {tried.insertion:.3f}, "
            f"in random order {np.mean(tried.random_insertion):.3f}."
        )


def maps(judge: Judge, path: str | Path, analysis: Analysis) -> Iterator[Map]:
    """Yield a map for every part of a judge that looks at pictures: of the picture that speaks loudest for the verdict.

    Raises:
        ModelError: no part looks at single pictures, or captum is not installed.
        MediaError, CropError: as the judge.
    """
    try:
        import captum  # noqa: F401
    except ImportError:
        raise ModelError("maps need the extra: pip install 'visavox[explain]'") from None
    found = dict(_picture_judges(judge))
    if not found:
        raise ModelError(f"{judge.name}: no part of it looks at single pictures, so there is no map of them")
    left_out = {part.what for part in analysis.degraded}
    for branch, each in found.items():
        if branch not in left_out:
            yield _of(branch, each, path, analysis.probability >= analysis.threshold)


def _of(branch: str, judge: PictureJudge | FramesOf, path: str | Path, fake: bool) -> Map:
    seconds, inputs = judge.pictures(path)[:2]
    p = judge.probabilities(inputs)  # (n,)
    loudest = int(p.argmax() if fake else p.argmin())
    shown = inputs[loudest].to(judge.device)  # (3, S, S)
    network = judge.network
    cells = attributed(network, shown, fake)
    picture = judge.wanted.seen(inputs[loudest])  # (S, S, 3) uint8
    return Map(
        branch,
        seconds[loudest],
        float(p[loudest]),
        cells,
        tried(network, shown, cells, fake),
        _overlaid(picture, cells),
    )


class FramesOf:
    """The frames that an Xception trained here scores, as `_of` wants pictures."""

    def __init__(self, judge: HouseJudge, detector: XceptionVideo) -> None:
        self.judge, self.detector, self.device = judge, detector, detector.device
        self.wanted = PictureInput(detector.settings.size, "bilinear", *HALVES)
        self.network = detector.image_logits

    def pictures(self, path: str | Path) -> tuple[list[float], list[Tensor]]:
        """Return second and input (3, S, S) of every frame that is scored.

        Raises:
            MediaError, CropError, BundleError: as the judge.
            ModelError: the video shows no face.
        """
        bundle = self.judge.see(path)
        if isinstance(bundle, np.ndarray):
            raise ModelError("the video shows no face, so there is no map of one")
        seconds, faces = self.detector.shown(bundle)
        return seconds.tolist(), [self.wanted(face) for face in faces]

    @torch.inference_mode()
    def probabilities(self, inputs: list[Tensor]) -> np.ndarray:
        """(3, S, S) each -> (n,) float64 P(fake)."""
        logits = [self.network(each[None].to(self.device)) for each in inputs]
        return torch.sigmoid(torch.cat(logits).double()).cpu().numpy()


def attributed(network: Callable[[Tensor], Tensor], picture: Tensor, fake: bool) -> np.ndarray:
    """Return what speaks for the verdict: (3, S, S) -> (G, G) float32 from 0 to 1, all 0 where nothing does."""
    from captum.attr import IntegratedGradients

    given = picture[None].clone().requires_grad_(True)
    made: Any = IntegratedGradients(network).attribute(
        given, baselines=_blurred(picture)[None], n_steps=PATH, internal_batch_size=4
    )
    towards = made[0].sum(0) * (1 if fake else -1)  # (S, S)
    cells = adaptive_avg_pool2d(towards[None, None], CELLS)[0, 0].clamp(min=0)  # (G, G)
    return (cells / cells.max().clamp(min=1e-12)).detach().float().cpu().numpy()


@torch.inference_mode()
def tried(network: Callable[[Tensor], Tensor], picture: Tensor, cells: np.ndarray, fake: bool) -> Faithfulness:
    """Blur and show cells in their order and in random ones: picture (3, S, S), cells (G, G)."""
    rng = np.random.default_rng(0)
    orders = [np.argsort(-cells, axis=None, kind="stable"), *(rng.permutation(cells.size) for _ in range(ORDERS))]
    blurred = _blurred(picture)
    deletion: list[float] = []
    insertion: list[float] = []
    for order in orders:
        heaviest = torch.from_numpy(_masks(order)).to(picture)[:, None]  # (STEPS + 1, 1, G, G), 1 where taken
        mask = interpolate(heaviest, picture.shape[1:], mode="nearest")  # (STEPS + 1, 1, S, S)
        for kept, mean in ((1 - mask, deletion), (mask, insertion)):
            logits = network(picture * kept + blurred * (1 - kept)).double()  # (STEPS + 1,)
            mean.append(torch.sigmoid(logits if fake else -logits).mean().item())
    return Faithfulness(deletion[0], insertion[0], tuple(deletion[1:]), tuple(insertion[1:]))


def _masks(order: np.ndarray) -> np.ndarray:
    """Cells taken at each share, none to all: order (G G,) -> (STEPS + 1, G, G) float32 of 0 and 1."""
    rank = np.empty(order.size)
    rank[order] = np.arange(order.size)
    taken = np.arange(STEPS + 1)[:, None] * order.size / STEPS
    return (rank[None] < taken).astype(np.float32).reshape(-1, CELLS, CELLS)


def _blurred(picture: Tensor) -> Tensor:
    """(3, S, S) -> the same without detail."""
    small = adaptive_avg_pool2d(picture[None], 4)
    return interpolate(small, picture.shape[1:], mode="bilinear", align_corners=False)[0]


def _overlaid(picture: np.ndarray, cells: np.ndarray) -> bytes:
    """PNG of (S, S, 3) uint8 RGB with the cells in colour over it, the more the heavier."""
    side = picture.shape[:2][::-1]
    weight = cv2.resize(cells, side, interpolation=cv2.INTER_CUBIC).clip(0, 1)[..., None]  # (S, S, 1)
    colour = np.array([255, 90, 0], np.float32)
    mixed = picture * (1 - 0.65 * weight) + colour * 0.65 * weight
    return bytes(cv2.imencode(".png", mixed.round().astype(np.uint8)[..., ::-1])[1])


def _picture_judges(judge: Any, branch: str = "") -> Iterator[tuple[str, PictureJudge | FramesOf]]:
    """Branch -> judge of pictures, of a judge and of those inside it."""
    if isinstance(judge, HouseJudge):  # others trained here see a clip's frames together
        scorer = judge.scorer
        detector = scorer.video if isinstance(scorer, FusedScorer) else scorer
        if isinstance(detector, XceptionVideo):
            yield branch or "video", FramesOf(judge, detector)
        return
    inside = getattr(judge, "judge", None)
    if inside is not None:
        yield from _picture_judges(inside, branch)
    for name, each in getattr(judge, "judges", {}).items():
        yield from _picture_judges(each, name)
    if isinstance(judge, PictureJudge):
        yield branch or judge.name, judge
