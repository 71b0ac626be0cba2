"""Settings of the detector that is trained on real clips alone."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from visavox.config.base import Settings, Tunable


class AnomalyConfig(Settings):
    """Mouth and voice learnt from real clips alone; the score is how unlikely a clip is after what was learnt."""

    name: Literal["anomaly"] = "anomaly"
    """Which detector; each has settings of its own."""
    vis_backbone: str = "efficientnet_b0"
    """Image network over mouths, by its name in timm; `test_efficientnet` is small enough for tests."""
    vis_weights: str = "efficientnet_b0_imagenet"
    """Where it starts from: a name of the registry, or `none` for random weights."""
    vis_num_frames: int = Field(16, ge=8, le=32)
    """Frames of a window, 25 a second."""
    vis_size: int = Field(112, ge=16)
    """Side of the mouth crops in pixels."""
    vis_transformer_layers: int = Field(4, ge=2, le=6)
    """Layers of the encoder over a window's frames."""
    vis_transformer_d_model: int = Field(256, ge=128, le=512)
    """Width of both streams and of the fused features; num_heads divides it."""
    aud_backbone: str = "mobilenetv2_100"
    """Image network over chunks of log-mel, by its name in timm."""
    aud_weights: str = "mobilenetv2_100_imagenet"
    """Where it starts from: a name of the registry, or `none` for random weights."""
    aud_num_chunks: int = Field(8, ge=4, le=16)
    """Chunks of sound in a window's seconds."""
    aud_n_mels: int = Field(80, ge=64, le=128)
    """Mel bins."""
    aud_transformer_layers: int = Field(4, ge=2, le=6)
    """Layers of the encoder over a window's chunks."""
    chunk_steps: int = Field(20, ge=4, le=40)
    """Steps of 10 ms in a chunk; chunks overlap where this is longer than their distance."""
    num_heads: int = Field(8, ge=1)
    """Attention heads of both encoders."""
    decoder_d_model: int = Field(512, ge=32)
    """Width of the autoregressive decoder; decoder_heads divides it."""
    decoder_layers: int = Field(6, ge=1)
    """Its layers."""
    decoder_heads: int = Field(8, ge=1)
    """Its attention heads."""
    mixtures: int = Field(4, ge=1)
    """Gaussians that the next step is a mixture of; 1 is a single one with a variance per dimension."""
    least_variance: float = Field(0.01, gt=0)
    """Least variance of a Gaussian; features have mean square 1."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout of encoders, fusion and decoder."""
    sync_epochs: int = Field(50, ge=1)
    """Epochs at most of the stage `sync`, in which the streams are trained; `epoch` is for the stage `density`."""
    max_offset: int = Field(15, ge=4)
    """Frames by which a clip's own sound is moved, at most, to serve as a negative."""
    least_offset: int = Field(3, ge=2)
    """Frames from which moved sound counts as not belonging; below it is neither own nor foreign."""
    windows: int = Field(4, ge=2)
    """Windows drawn from a clip per training step."""
    temperature: float = Field(0.07, gt=0)
    """Of the contrastive loss."""
    match_weight: float = Field(1.0, ge=0)
    """Weight of the fusion's own loss (own sound or not) beside the contrastive one."""
    collapse_bound: Annotated[float, Tunable] = Field(0.002, ge=0, lt=1)
    """Least share of the features' power that differs between clips; training stops where it stays below. 0: never."""
    collapse_grace: Annotated[int, Tunable] = Field(500, ge=0)
    """Training steps before that is asked for: features of fresh networks are alike."""
    joint: bool = False
    """Train streams and decoder together on likelihood alone, for comparison: the features collapse."""
    window_stride: int = Field(4, ge=1)
    """In scoring a window begins at every n-th frame."""
    chunk: Annotated[int, Tunable] = Field(64, ge=1)
    """Images or windows that go through a network at once in scoring."""
    false_positive_rate: float = Field(0.05, gt=0, lt=1)
    """Share of real validation clips that lie above the threshold, which is where P(fake) is 0.5."""

    @model_validator(mode="after")
    def _heads_divide_widths(self) -> "AnomalyConfig":
        faults = []
        if self.vis_transformer_d_model % (2 * self.num_heads):
            faults.append(
                f"detector.vis_transformer_d_model={self.vis_transformer_d_model} is no multiple of twice "
                f"detector.num_heads={self.num_heads}"
            )
        if self.decoder_d_model % (2 * self.decoder_heads):
            faults.append(
                f"detector.decoder_d_model={self.decoder_d_model} is no multiple of twice "
                f"detector.decoder_heads={self.decoder_heads}"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self
