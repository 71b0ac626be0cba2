"""Settings of 2D3MF: which frozen features are fused, and how."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from visavox.config.base import Settings, Tunable

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""The emotions of RAVDESS in the order of their numbers, 01 to 08 (Livingstone and Russo, 2018)."""


class TD3MFConfig(Settings):
    """Frozen features of face and voice, fused in the middle by cross-attention."""

    name: Literal["td3mf"] = "td3mf"
    """Which detector; each has settings of its own."""
    task: Literal["deepfake", "emotion"] = "deepfake"
    """`emotion` tells the eight emotions of RAVDESS apart (the split's column `emotion`) in place of real and fake."""
    video_backbone: str = "marlin_vit_small_ytf"
    """What sees: marlin_vit_{small,base,large}_ytf (`marlin` is the small one), efficientface, or a tiny one."""
    audio_backbone: str = "eat"
    """What hears: MFCC, xvectors, xvectors_posteriors, resnet, emotion2vec, eat, or a tiny one."""
    backbone_weights: Annotated[str, Tunable] = "published"
    """`random` leaves the backbones untrained: the control that shows what a data set gives away. Else a folder of weights of
    one's own, as `visavox pretrain-backbones` writes it. A trained network takes the weights it was trained on and no others."""
    backbone_seed: int = Field(0, ge=0)
    """Seed of random backbone weights."""
    features: Annotated[str | None, Tunable] = None
    """Folder of features, as `visavox features` fills it; what it lacks is made and kept there. null computes them each time."""
    temporal_axis: int = Field(10, ge=1)
    """Steps of video a clip has at most; shorter clips are padded, and the padding is masked."""
    fusion: Literal["mf", "lf"] = "mf"
    """`mf` convolves what the attention gave over time before it is averaged, `lf` does not; case does not matter."""
    middle_fusion_type: Literal[
        "default", "audio_refuse", "video_refuse", "self_attention", "self_cross_attention", "multi_attention"
    ] = "default"
    """Who attends to whom, and in which order."""
    hidden_layers: int = Field(64, ge=1)
    """Width of the video in the fusion."""
    num_heads: int = Field(2, ge=1)
    """Attention heads; they divide hidden_layers and the width of the sound."""
    audio_positional_encoding: bool = False
    """Tell the steps of the sound apart by their place."""
    lp_only: bool = False
    """A linear probe on the video's features in place of the fusion."""
    audio_only: bool = False
    """A linear probe on the sound's features in place of the fusion."""
    modality_dropout: float = Field(0.0, ge=0, le=1)
    """Share of training clips that lose one modality."""
    modality_dropout_by: Literal["noise", "mask"] = "noise"
    """What stands in its place: N(0, 1) as published, or nothing, as in a clip without sound."""
    finetune: bool = False
    """Train the MARLIN encoder with the fusion, on frames."""
    schedule: Literal["plateau", "cosine"] = "plateau"
    """`plateau`: Adam with betas 0.5 and 0.9, the rate halved after 7 epochs without a lower train/loss, as published; `cosine`:
    optimizer, warm-up and cosine as for the other detectors."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The emotions, for `task=emotion`."""
        return EMOTIONS if self.task == "emotion" else ()

    @field_validator("fusion", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("video_backbone")
    @classmethod
    def _small_is_meant(cls, value: str) -> str:
        return "marlin_vit_small_ytf" if value == "marlin" else value

    @model_validator(mode="after")
    def _fits(self) -> "TD3MFConfig":
        if self.lp_only and self.audio_only:
            raise ValueError("detector.lp_only and detector.audio_only exclude each other; set one of them")
        if self.finetune and not self.video_backbone.startswith("marlin"):
            raise ValueError(f"detector.finetune trains MARLIN; detector.video_backbone is {self.video_backbone}")
        return self
