"""Tiny-LaDeDa as published (barcavia/RealTime-DeepfakeDetection-in-the-RealWorld, e734562): whole pictures, one logit each.

Its makers judge photographs; a video is judged here by some of its frames, which they did not evaluate. Of their two files
only the one trained on WildRF is offered: with the input that their code takes by default (`right_diag`), the one trained on
ForenSynths gives real frames logits of 450 to 1750, and the running variances in it (0.013 to 0.034) are a tenth of what that
input makes.
"""

from __future__ import annotations

import torch

from visavox.detectors.analysis import ModelCard
from visavox.detectors.fiveway.tiny import TinyLaDeDa
from visavox.detectors.published.pictures import PictureJudge
from visavox.preprocessing.picture_input import IMAGENET, PictureInput
from visavox.weights import loading

INPUT = PictureInput(256, "bilinear", *IMAGENET)
"""As its test.py sets it: resized to 256 x 256 (`loadSize`), not cropped (`no_crop`), ImageNet's mean and deviation."""


def network(name: str) -> TinyLaDeDa:
    """Return the network with a published file of the registry in it, ready to score."""
    tiny = TinyLaDeDa("right_diag")
    loading.fit(tiny, loading.state_dict(name), what=name)
    return tiny.eval()


def judge(card: ModelCard, name: str, device: torch.device, threads: int = 0) -> PictureJudge:
    """Return the judge of a published file of the registry."""
    notes = (
        "Whole frames are judged, as photographs: neither the face nor the voice is looked at by itself.",
        "It was made for photographs; on frames of compressed videos its makers report nothing.",
    )
    return PictureJudge(card, network(name).to(device), INPUT, device=device, notes=notes, threads=threads)
