"""Settings of the five branches and their fusion."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from visavox.config.base import Settings, Tunable

STAGES = ("tiny", "visual", "temporal", "audio", "sync", "fusion")
"""What is trained one after the other."""


class FiveWayConfig(Settings):
    """Patches, faces, their course in time, the voice, and how sound and mouth agree: five branches, one calibrated verdict."""

    name: Literal["fiveway"] = "fiveway"
    """Which detector; each has settings of its own."""
    preprocessing: Literal["natural", "wrapped"] = "natural"
    """`wrapped` tears the face crops as the seed's integer overflow did, for its own weights and for nothing else."""
    train_faces: int = Field(4, ge=1)
    """Faces of a clip in a training step of the branches tiny and visual, drawn among the frame_num."""
    chunk: Annotated[int, Tunable] = Field(64, ge=1)
    """Faces that go through a network at once in scoring."""

    tiny_preprocess: Literal["raw", "npr", "x_grad", "y_grad", "left_diag", "right_diag"] = "right_diag"
    """What Tiny-LaDeDa's first convolution sees: a diagonal gradient as published; `raw` in the seed."""
    tiny_input: Literal["imagenet", "unit"] = "imagenet"
    """ImageNet's mean and deviation as published, or RGB / 255 alone as in the seed."""
    tiny_weights: str = "none"
    """Where the branch starts from: `tiny_ladeda_wildrf`, a path, or `none`."""
    tiny_epochs: int | None = Field(None, ge=0)
    """Epochs of the stage at most; null takes `epoch`, 0 leaves the stage out and the branch as it starts."""
    tiny_lr: float | None = Field(None, gt=0)
    """Peak learning rate of the stage; null takes `lr`."""
    teacher_weights: str = "none"
    """LaDeDa-9 to distil Tiny-LaDeDa from: a path, or `none` for training on labels alone."""
    teacher_width: int = Field(64, ge=1)
    """Channels of the teacher's first layer."""

    visual_width: int = Field(64, ge=4)
    """Channels of the first stage of the ResNet-18."""
    visual_blocks: int = Field(2, ge=1, le=3)
    """Residual blocks in each of its stages."""
    visual_weights: str = "none"
    """Where the branch starts from: `resnet18_imagenet`, a path, or `none`."""
    visual_epochs: int | None = Field(None, ge=0)
    """As tiny_epochs."""
    visual_lr: float | None = Field(None, gt=0)
    """As tiny_lr."""

    temporal_hidden: int = Field(128, ge=4)
    """Cells of the BiLSTM in each direction."""
    temporal_mode: Literal["masked", "padded"] = "masked"
    """`padded` averages over zero rows up to 32 as the seed does."""
    temporal_weights: str = "none"
    """Where the branch starts from: a path, or `none`."""
    temporal_epochs: int | None = Field(None, ge=0)
    """As tiny_epochs."""
    temporal_lr: float | None = Field(None, gt=0)
    """As tiny_lr."""

    audio_recipe: Literal["seed", "asvspoof2019", "asvspoof2021"] = "seed"
    """How constant-Q cepstra are made."""
    audio_steps: int = Field(400, ge=16)
    """Steps of the cepstra that the network sees: 6.4 s of the seed's recipe."""
    audio_pad: Literal["repeat", "zero"] = "repeat"
    """How shorter sound is filled up; `zero` as in the seed, from which the network can read a clip's length."""
    audio_standardise: bool = True
    """Mean 0 and deviation 1 of each coefficient over the clip; false as in the seed."""
    audio_width: int = Field(32, ge=2)
    """Channels of the first block."""
    audio_weights: str = "none"
    """Where the branch starts from: what `visavox pretrain-audio` wrote, another path, or `none`."""
    audio_epochs: int | None = Field(None, ge=0)
    """As tiny_epochs."""
    audio_lr: float | None = Field(None, gt=0)
    """As tiny_lr."""

    sync_head: Literal["windows", "clip"] = "windows"
    """Windows of mouths against windows of sound; or the seed's head on clip means, whose validation AUC was 0.53."""
    sync_size: int = Field(48, ge=16)
    """Side of the mouth crops in pixels."""
    sync_mels: int = Field(80, ge=16)
    """Mel bins."""
    sync_width: int = Field(32, ge=2)
    """Channels of the first layers."""
    sync_dim: int = Field(128, ge=8)
    """Width of the common space."""
    sync_window: int = Field(15, ge=5)
    """Frames of a window, 25 a second."""
    sync_stride: int = Field(5, ge=1)
    """In scoring a window begins at every n-th frame."""
    sync_windows: int = Field(4, ge=1)
    """Windows drawn from a clip in a training step."""
    sync_least_shift: int = Field(3, ge=1)
    """Frames by which sound is moved at least to be a negative."""
    sync_max_shift: int = Field(15, ge=2)
    """Frames by which it is moved at most."""
    sync_heat: float = Field(0.07, gt=0)
    """Temperature of the contrastive loss."""
    sync_weights: str = "none"
    """Where the branch starts from: a path, or `none`."""
    sync_epochs: int | None = Field(None, ge=0)
    """As tiny_epochs."""
    sync_lr: float | None = Field(None, gt=0)
    """As tiny_lr."""

    folds: int = Field(5, ge=2)
    """Folds of the fusion's cross-validation; nobody is in two."""
    gate_recall: float = Field(0.99, gt=0, lt=1)
    """Share of fakes that the gate must keep from exiting early; it stays shut where the fake validation clips are too few to
    vouch for it with 95 % confidence: 0.99 takes 368 of them."""
    early_exit: Annotated[bool, Tunable] = True
    """Clips whose patches are all surely real skip the other branches, where the gate is open."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "FiveWayConfig":
        faults = []
        if self.sync_max_shift < self.sync_least_shift:
            faults.append(
                f"detector.sync_max_shift={self.sync_max_shift} is below "
                f"detector.sync_least_shift={self.sync_least_shift}"
            )
        if self.teacher_weights != "none" and self.tiny_epochs == 0:
            faults.append("detector.teacher_weights is of no use with detector.tiny_epochs=0; leave one out")
        if faults:
            raise ValueError("; ".join(faults))
        return self
