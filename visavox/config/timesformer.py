"""Settings of the reference detector."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from visavox.config.base import Settings, Tunable


class TimeSformerSyncNetConfig(Settings):
    """The reference detector: TimeSformer over faces and mel images, with a latency network over SyncNet's distances."""

    name: Literal["timesformer_syncnet"] = "timesformer_syncnet"
    """Which detector; each has settings of its own."""
    embed_dims: int = Field(768, ge=8)
    """Width of TimeSformer's tokens."""
    num_layers: int = Field(12, ge=1)
    """Transformer layers."""
    num_heads: int = Field(12, ge=1)
    """Attention heads; divides embed_dims."""
    patch_size: int = Field(16, ge=2)
    """Side of a patch in pixels; divides frame_size."""
    drop_path_rate: float = Field(0.1, ge=0, lt=1)
    """Stochastic depth of the last layer; rises linearly from 0."""
    attention_type: Literal["divided_space_time", "space_only", "joint_space_time"] = "divided_space_time"
    """Which patches attend to which (Bertasius et al., 2021)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the classifier."""
    latency_hidden: int = Field(32, ge=1)
    """Hidden width of the latency network."""
    latency_features: int = Field(8, ge=1)
    """Features the latency network gives to the classifier."""
    auxiliary: bool = False
    """Learn beside the class where in each frame and when in the clip a made fake is forged (FakeSTormer, ICCV 2025); needs
    `fakes`. The detector then says P(fake) of each moment."""
    checkpoint_activations: Annotated[bool, Tunable] = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "TimeSformerSyncNetConfig":
        if self.embed_dims % self.num_heads:
            raise ValueError(
                f"detector.num_heads={self.num_heads} does not divide detector.embed_dims={self.embed_dims}"
            )
        return self
