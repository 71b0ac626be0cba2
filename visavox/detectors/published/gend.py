"""GenD as published (yermandy/GenD e03532d): aligned faces of 32 frames, the mean of their probabilities."""

from __future__ import annotations

import json

import torch

from visavox.detectors.analysis import ModelCard
from visavox.detectors.gend.network import INPUTS, GenDNetwork, published_names
from visavox.detectors.published.pictures import PictureJudge
from visavox.faces.retinaface.detector import RetinaFaceDetector
from visavox.preprocessing.alignment import LargestFace
from visavox.weights import WeightsError, loading, resolve

BACKBONES = {
    "gend_clip_l14": "clip_l14",
    "gend_pe_l": "vit_pe_core_large_patch14_336",
    "gend_dinov3_l16": "dinov3_l16",
}
FACES = "retinaface_mobilenet0.25"
FACE_THRESHOLD = 0.5
"""Its makers take 0.1 of another detector (det_10g of insightface); the largest face counts, so that few frames differ."""
FRAMES = 32


def network(name: str, layers: int | None = None) -> GenDNetwork:
    """Return the network with a published file of the registry in it, ready to score; its head is what its config.json says.

    Args:
        layers: of the backbone, where the file has fewer than the published 24.

    Raises:
        WeightsError: a file is missing or does not fit.
    """
    net = GenDNetwork(BACKBONES[name], _head(name), layers)
    loading.fit(net, published_names(loading.state_dict(name)), what=name)
    return net.eval()


def _head(name: str) -> str:
    path = resolve(f"{name}_config")
    try:
        head = json.loads(path.read_text(encoding="utf-8"))["head"]
    except (ValueError, KeyError, TypeError):
        head = None
    if head not in ("linear", "LinearNorm"):
        raise WeightsError(f"{path}: says head={head!r}, expected linear or LinearNorm; fetch it again")
    return head


def judge(card: ModelCard, name: str, device: torch.device, threads: int = 0) -> PictureJudge:
    """Return the judge of one of the published files."""
    finder = RetinaFaceDetector("mobilenet0.25", loading.state_dict(FACES), threshold=FACE_THRESHOLD, device=device)
    return PictureJudge(
        card,
        network(name).to(device),
        INPUTS[BACKBONES[name]],
        frames=FRAMES,
        part=LargestFace(finder),
        device=device,
        notes=("The largest face of single frames is judged; the voice is not listened to.",),
        threads=threads,
    )
