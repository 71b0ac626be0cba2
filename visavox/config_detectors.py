"""The settings of each detector: `detector.KEY` of the configuration, told apart by `detector.name`."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,  # so that a default of 16 and a 16 that was written down hash alike
    )


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
    checkpoint_activations: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    after_training: ClassVar[dict[str, Any]] = {"checkpoint_activations": True}
    """What may still be chosen when a trained network is loaded, as pydantic's `exclude` wants it."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "TimeSformerSyncNetConfig":
        if self.embed_dims % self.num_heads:
            raise ValueError(
                f"detector.num_heads={self.num_heads} does not divide detector.embed_dims={self.embed_dims}"
            )
        return self


Pooling = Literal["mean", "max", "p90", "top_k"]


class XceptionVideoConfig(Settings):
    """Xception over single face crops (Chollet, 2017); a clip's score is pooled from its frames'."""

    name: Literal["xception_video"] = "xception_video"
    """Which detector; each has settings of its own."""
    backbone: str = "legacy_xception"
    """Image network, by its name in timm; `test_resnet` is small enough for tests."""
    size: int = Field(299, ge=32)
    """Side in pixels of what the network sees; the bundle's faces are resized to it."""
    pooling: Pooling = "mean"
    """P(fake) of a clip from those of its frames: mean, max, 90th percentile, or mean of the top_k highest."""
    top_k: int = Field(10, ge=1)
    """Frames that pooling=top_k takes."""
    frame_skip: int = Field(5, ge=1)
    """In scoring every n-th frame of the track is looked at."""
    max_frames: int = Field(300, ge=1)
    """In scoring frames looked at, at most; more are thinned evenly."""
    chunk: int = Field(16, ge=1)
    """Images that go through the network at once in scoring; on a CPU large ones go one by one."""

    after_training: ClassVar[dict[str, Any]] = dict.fromkeys(
        ("pooling", "top_k", "frame_skip", "max_frames", "chunk"), True
    )


class XceptionAudioConfig(Settings):
    """Xception over mel spectrograms of overlapping windows of the sound."""

    name: Literal["xception_audio"] = "xception_audio"
    """Which detector; each has settings of its own."""
    backbone: str = "legacy_xception"
    """Image network, by its name in timm; `test_resnet` is small enough for tests."""
    size: int = Field(299, ge=32)
    """Side in pixels of the mel image."""
    n_mels: int = Field(128, ge=16)
    """Mel bins between 20 and 8000 Hz."""
    window: float = Field(2.0, gt=0.2)
    """Seconds of a window."""
    overlap: float = Field(0.5, ge=0, lt=1)
    """Share of a window that the next one hears again."""
    windows: int = Field(4, ge=1)
    """Windows of a clip in training and validation; in scoring all are heard."""
    hidden: tuple[int, int] = (512, 256)
    """Widths of the head's two layers."""
    dropout: tuple[float, float] = (0.5, 0.3)
    """Dropout after each of them."""
    pooling: Pooling = "mean"
    """P(fake) of a clip from those of its windows: mean, max, 90th percentile, or mean of the top_k highest."""
    top_k: int = Field(3, ge=1)
    """Windows that pooling=top_k takes."""
    chunk: int = Field(16, ge=1)
    """Images that go through the network at once in scoring; on a CPU large ones go one by one."""

    after_training: ClassVar[dict[str, Any]] = dict.fromkeys(("pooling", "top_k", "chunk"), True)


class LogitCalibration(Settings):
    """P(fake) = sigmoid(a z + b) of a branch's logit z, fitted on validation clips; 1 and 0 leave it as it is."""

    a: float = Field(1.0, gt=0)
    """Slope."""
    b: float = 0.0
    """Offset."""


class XceptionFusedConfig(Settings):
    """The two Xceptions as one scorer. Put together of two trained ones: `python -m visavox.xception fuse`."""

    name: Literal["xception_fused"] = "xception_fused"
    """Which detector; each has settings of its own."""
    video: XceptionVideoConfig = XceptionVideoConfig()
    """The branch that sees."""
    audio: XceptionAudioConfig = XceptionAudioConfig()
    """The branch that hears."""
    video_calibration: LogitCalibration = LogitCalibration()
    """Of the frames' logits; `fuse` takes it from the calibration.json beside the branch's checkpoint."""
    audio_calibration: LogitCalibration = LogitCalibration()
    """Of the windows' logits."""
    strategy: Literal["equal", "video_trust", "adaptive", "either"] = "equal"
    """Weights of the branches: 50/50, 85/15, by the confidence of each, or all to the one that sees more of a fake."""
    tau: float = Field(0.2, ge=0)
    """Sharpness of `adaptive`: 0.2 is as good as equal (0.475 to 0.525), from 5 on it bites (0.08 to 0.92)."""
    audio_temperature: float = Field(2.0, ge=1, le=10)
    """Divides the audio logits before fusing; 1 where `fuse` has found a calibration."""
    threshold: float = Field(0.5, ge=0.3, le=0.7)
    """P(fake) from which a clip is called fake."""
    abstain_below: float = Field(0.6, ge=0.5, le=1)
    """Confidence max(P, 1 - P) below which no verdict is given; 0.5 always gives one."""
    pooling: Pooling = "mean"
    """P(fake) of a clip from those of its fused segments: mean, max, 90th percentile, or mean of the top_k highest."""
    top_k: int = Field(3, ge=1)
    """Segments that pooling=top_k takes."""

    after_training: ClassVar[dict[str, Any]] = dict.fromkeys(
        ("strategy", "tau", "audio_temperature", "threshold", "abstain_below", "pooling", "top_k")
        + ("video_calibration", "audio_calibration"),
        True,
    ) | {"video": XceptionVideoConfig.after_training, "audio": XceptionAudioConfig.after_training}


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
    collapse_bound: float = Field(0.002, ge=0, lt=1)
    """Least share of the features' power that differs between clips; training stops where it stays below. 0: never."""
    collapse_grace: int = Field(500, ge=0)
    """Training steps before that is asked for: features of fresh networks are alike."""
    joint: bool = False
    """Train streams and decoder together on likelihood alone, for comparison: the features collapse."""
    window_stride: int = Field(4, ge=1)
    """In scoring a window begins at every n-th frame."""
    chunk: int = Field(64, ge=1)
    """Images or windows that go through a network at once in scoring."""
    false_positive_rate: float = Field(0.05, gt=0, lt=1)
    """Share of real validation clips that lie above the threshold, which is where P(fake) is 0.5."""

    after_training: ClassVar[dict[str, Any]] = dict.fromkeys(("chunk", "collapse_bound", "collapse_grace"), True)

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


DetectorConfig = (
    TimeSformerSyncNetConfig | XceptionVideoConfig | XceptionAudioConfig | XceptionFusedConfig | AnomalyConfig
)
