"""Settings of the Xception branches and of their fusion."""

from typing import Annotated, Literal

from pydantic import Field

from visavox.config.base import Settings, Tunable

Pooling = Literal["mean", "max", "p90", "top_k"]


class XceptionVideoConfig(Settings):
    """Xception over single face crops (Chollet, 2017); a clip's score is pooled from its frames'."""

    name: Literal["xception_video"] = "xception_video"
    """Which detector; each has settings of its own."""
    backbone: str = "legacy_xception"
    """Image network, by its name in timm; `test_resnet` is small enough for tests."""
    size: int = Field(299, ge=32)
    """Side in pixels of what the network sees; the bundle's faces are resized to it."""
    pooling: Annotated[Pooling, Tunable] = "mean"
    """P(fake) of a clip from those of its frames: mean, max, 90th percentile, or mean of the top_k highest."""
    top_k: Annotated[int, Tunable] = Field(10, ge=1)
    """Frames that pooling=top_k takes."""
    frame_skip: Annotated[int, Tunable] = Field(5, ge=1)
    """In scoring every n-th frame of the track is looked at."""
    max_frames: Annotated[int, Tunable] = Field(300, ge=1)
    """In scoring frames looked at, at most; more are thinned evenly."""
    chunk: Annotated[int, Tunable] = Field(16, ge=1)
    """Images that go through the network at once in scoring; on a CPU large ones go one by one."""


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
    pooling: Annotated[Pooling, Tunable] = "mean"
    """P(fake) of a clip from those of its windows: mean, max, 90th percentile, or mean of the top_k highest."""
    top_k: Annotated[int, Tunable] = Field(3, ge=1)
    """Windows that pooling=top_k takes."""
    chunk: Annotated[int, Tunable] = Field(16, ge=1)
    """Images that go through the network at once in scoring; on a CPU large ones go one by one."""


class LogitCalibration(Settings):
    """P(fake) = sigmoid(a z + b) of a branch's logit z, fitted on validation clips; 1 and 0 leave it as it is."""

    a: float = Field(1.0, gt=0)
    """Slope."""
    b: float = 0.0
    """Offset."""


class XceptionFusedConfig(Settings):
    """The two Xceptions as one scorer. Put together of two trained ones: `visavox fuse`."""

    name: Literal["xception_fused"] = "xception_fused"
    """Which detector; each has settings of its own."""
    video: XceptionVideoConfig = XceptionVideoConfig()
    """The branch that sees."""
    audio: XceptionAudioConfig = XceptionAudioConfig()
    """The branch that hears."""
    video_calibration: Annotated[LogitCalibration, Tunable] = LogitCalibration()
    """Of the frames' logits; `fuse` takes it from the calibration.json beside the branch's checkpoint."""
    audio_calibration: Annotated[LogitCalibration, Tunable] = LogitCalibration()
    """Of the windows' logits."""
    strategy: Annotated[Literal["equal", "video_trust", "adaptive", "either"], Tunable] = "equal"
    """Weights of the branches: 50/50, 85/15, by the confidence of each, or all to the one that sees more of a fake."""
    tau: Annotated[float, Tunable] = Field(0.2, ge=0)
    """Sharpness of `adaptive`: 0.2 is as good as equal (0.475 to 0.525), from 5 on it bites (0.08 to 0.92)."""
    audio_temperature: Annotated[float, Tunable] = Field(2.0, ge=1, le=10)
    """Divides the audio logits before fusing; 1 where `fuse` has found a calibration."""
    threshold: Annotated[float, Tunable] = Field(0.5, ge=0.3, le=0.7)
    """P(fake) from which a clip is called fake."""
    abstain_below: Annotated[float, Tunable] = Field(0.6, ge=0.5, le=1)
    """Confidence max(P, 1 - P) below which no verdict is given; 0.5 always gives one."""
    pooling: Annotated[Pooling, Tunable] = "mean"
    """P(fake) of a clip from those of its fused segments: mean, max, 90th percentile, or mean of the top_k highest."""
    top_k: Annotated[int, Tunable] = Field(3, ge=1)
    """Segments that pooling=top_k takes."""
