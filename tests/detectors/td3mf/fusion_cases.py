"""The configurations of the fusion network that are compared with the published code."""

from dataclasses import dataclass
from typing import get_args

from td3mf_values import drawn
from torch import Tensor

from visavox.detectors.td3mf.backbones import marlin
from visavox.detectors.td3mf.network import AudioInput, FusionNetwork, FusionType

AUDIO = {
    "MFCC": AudioInput("mfcc", 10, 10),
    "eat": AudioInput("vectors", 768, 512),
    "emotion2vec": AudioInput("vectors", 768, 10),
    "resnet": AudioInput("vectors", 512, 10),
    "xvectors": AudioInput("posteriors", 7205, 10),
}
SHAPES = {
    "MFCC": (10, 10, 87),
    "eat": (512, 768),
    "emotion2vec": (10, 768),
    "resnet": (10, 512),
    "xvectors": (10, 7205),
}


@dataclass(frozen=True)
class FusionCase:
    name: str
    audio: str
    fusion: str = "mf"
    fusion_type: str = "default"
    probe: str = "none"
    hidden: int = 64
    heads: int = 2
    encoding: bool = False
    classes: int = 1


FUSION_CASES = [
    FusionCase(f"fusion {kind} {fusion} {audio}", audio, fusion, kind)
    for kind in get_args(FusionType)
    for fusion in ("mf", "lf")
    for audio in AUDIO
] + [
    FusionCase("lp_only", "MFCC", probe="video"),
    *(FusionCase(f"audio_only {audio}", audio, probe="audio") for audio in AUDIO),
    *(FusionCase(f"positions {audio}", audio, encoding=True) for audio in AUDIO),
    FusionCase("emotion, hidden 128, heads 4", "eat", hidden=128, heads=4, classes=8),
]


def our_fusion(case: FusionCase) -> FusionNetwork:
    return FusionNetwork(
        video_dim=384,
        audio=AUDIO[case.audio],
        hidden=case.hidden,
        heads=case.heads,
        fusion=case.fusion,
        fusion_type=case.fusion_type,
        audio_positional_encoding=case.encoding,
        probe=case.probe,
        classes=case.classes,
    )


def our_finetuned() -> FusionNetwork:
    """The fusion with a tiny MARLIN encoder inside, of seven steps."""
    return FusionNetwork(
        video_dim=24,
        audio=AudioInput("vectors", 512, 7),
        hidden=8,
        heads=1,
        steps=7,
        fusion="lf",
        audio_positional_encoding=True,
        encoder=marlin.MarlinEncoder(marlin.SIZES["marlin_vit_tiny"]),
    )


def finetuned_inputs() -> tuple[Tensor, Tensor]:
    """Two clips: frames (2, 7, 16, 3, 32, 32) and features of sound (2, 7, 512)."""
    return drawn("frames", 2, 7, 16, 3, 32, 32), drawn("resnet", 2, 7, 512)


def fusion_inputs(case: FusionCase) -> tuple[Tensor, Tensor]:
    """Two clips: video (2, 10, 384) and the backbone's audio features."""
    return drawn("video", 2, 10, 384), drawn(case.audio, 2, *SHAPES[case.audio])
