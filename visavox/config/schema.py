"""Every knob of Visavox, typed and closed.

    config = load("config.json", ["lr=1e-3", "detector.num_layers=4"])

A key that does not exist is an error that names the nearest one; all errors are reported at once, before any work starts.
The docstring under a field is its help (`python train.py --help` prints it). Fields marked `Prep` decide what a bundle holds;
they enter `prep_hash`, so that bundles made with other settings are never mixed in silence.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from visavox.config import fakes
from visavox.config.anomaly import AnomalyConfig
from visavox.config.base import Settings
from visavox.config.fiveway import FiveWayConfig
from visavox.config.gend import GenDConfig
from visavox.config.td3mf import TD3MFConfig
from visavox.config.timesformer import TimeSformerSyncNetConfig
from visavox.config.xception import (
    XceptionAudioConfig,
    XceptionFusedConfig,
    XceptionVideoConfig,
)
from visavox.config.zeroshot import ZeroShotConfig

DetectorConfig = (
    TimeSformerSyncNetConfig
    | XceptionVideoConfig
    | XceptionAudioConfig
    | XceptionFusedConfig
    | AnomalyConfig
    | TD3MFConfig
    | FiveWayConfig
    | GenDConfig
    | ZeroShotConfig
)

SYNC_FPS = 25.0
"""Frames per second of every face track: SyncNet's rate (Chung & Zisserman, 2016)."""


class ConfigError(ValueError):
    """The configuration is wrong; the message lists every fault with its cure."""

    code = "BAD_CONFIG"


class _Prep:
    """Marks a field that crop.py reads: it changes what a bundle holds."""


Prep = _Prep()


class Config(Settings):
    """The reference configuration; the defaults are those of config.json."""

    # What a bundle holds
    max_clip_len: Annotated[float, Prep] = Field(16, gt=0)
    """Seconds of a video that are used, from its start."""
    face_detector: Annotated[Literal["retinaface_mobilenet0.25", "retinaface_resnet50", "haar"], Prep] = (
        "retinaface_mobilenet0.25"
    )
    """Face detector. `haar` comes with OpenCV; the others need weights: `visavox weights fetch NAME`."""
    face_detection_step: Annotated[int, Prep] = Field(64, ge=1)
    """Faces are detected on every n-th frame, and between where the track is lost or moves unevenly."""
    face_max_size: Annotated[int, Prep] = Field(640, ge=64)
    """Longer side in pixels of the image the face detector sees; larger frames are shrunk to it."""
    face_threshold: Annotated[float, Prep] = Field(0.9, gt=0, lt=1)
    """Least score of a face."""
    main_face: Annotated[Literal["largest", "speaker"], Prep] = "largest"
    """Which of several faces is followed: the one seen longest and largest, or the one whose lips run with the sound."""
    face_margin: Annotated[float, Prep] = Field(0.4, ge=0)
    """Width added around the face box, as a share of its half side (SyncNet's crop scale)."""
    frame_size: Annotated[int, Prep] = Field(224, ge=16)
    """Side of the face crops in pixels."""
    bundle_faces: Annotated[int, Prep] = Field(32, ge=1)
    """Faces a bundle keeps; never fewer than frame_num."""
    freq_num: Annotated[int, Prep] = Field(128, ge=8)
    """Mel bins."""
    resample_rate: Annotated[int, Prep] = Field(16000, ge=8000)
    """Sample rate of the audio in Hz. SyncNet wants 16000."""
    sync: Annotated[Literal["syncnet", "correlation", "off"], Prep] = "syncnet"
    """How audio-visual distances are measured. `correlation` needs no weights: mouth motion against the audio envelope."""
    sync_pad: Annotated[Literal["valid", "zero"], Prep] = "valid"
    """SyncNet distances over pairs inside the clip (`valid`), or against zeros beyond its ends as published (`zero`)."""
    vshift: Annotated[int, Prep] = Field(15, ge=1)
    """Largest audio-visual shift tried, in frames either way."""
    sync_stride: Annotated[int, Prep] = Field(1, ge=1, le=5)
    """SyncNet reads the lips in every n-th window of five frames; the sound in all."""
    crop_precision: Annotated[Literal["fp32", "bf16"], Prep] = "fp32"
    """Arithmetic of the networks in cropping. `bf16` is half the time on processors that have it and changes distances
    slightly; it is asked for, never taken by itself, so that equal settings mean equal bundles on every machine."""
    store_track: Annotated[bool, Prep] = True
    """Keep the whole 25 fps face track in the bundle (JPEG); the sibling detectors train on it."""

    # What the network sees
    frame_num: int = Field(16, ge=1)
    """Faces of a clip that the detector sees; as many mel images follow them."""
    mel_frames: bool = True
    """Show the network the mel images after the faces, as the reference system does."""
    trim_silence: Literal["none", "leading", "both"] = "none"
    """Cut the silence before speech (and after it) from sound and picture; see `visavox audit`."""
    speech_gate: Literal["energy", "silero"] = "energy"
    """What tells speech from silence where clips are trimmed: loudness, or Silero's network (extra `vad`), to which music and
    noise are no speech."""
    temporal_jitter: float = Field(0.0, ge=0)
    """Seconds; in training a clip begins at a random moment up to this late."""
    detector: DetectorConfig = Field(TimeSformerSyncNetConfig(), discriminator="name")
    """The network and its sizes; `detector.name` says which."""

    # Training
    root_path: str = "."
    """Folder that holds data/NAME.csv; relative file paths in the CSV start here."""
    lr: float = Field(5e-3, gt=0)
    """Peak learning rate."""
    epoch: int = Field(32, ge=1)
    """Epochs at most."""
    train_batch_size: int = Field(2, ge=1)
    """Clips per training step and device."""
    submit_batch_size: int = Field(1, ge=1)
    """Clips per scoring step."""
    seed: int = Field(100, ge=0, lt=2**32)
    """Seed of everything random."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where to compute; `auto` takes a GPU when there is one."""
    confine: Literal["auto", "require", "off"] = "auto"
    """Decode videos in a process that can touch nothing else: `auto` as far as the system offers it, `require` refuses where it
    offers less than all, `off` decodes in the worker itself."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Arithmetic of training; `auto` is bf16-mixed on a GPU that has it, else 32-true."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """`sgd`: Nesterov momentum 0.9, as published for TimeSformer; `adamw`: betas 0.9 and 0.999."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay; biases, norms and embeddings are exempt."""
    warmup_epochs: float = Field(1.0, ge=0)
    """Epochs of linear warm-up before the cosine."""
    grad_clip: float = Field(40.0, ge=0)
    """Largest gradient norm; 0 leaves gradients alone."""
    accumulate: int = Field(1, ge=1)
    """Batches per optimiser step."""
    devices: int = Field(1, ge=1)
    """GPUs, or CPU processes, per node."""
    num_nodes: int = Field(1, ge=1)
    """Machines."""
    strategy: str = "auto"
    """Lightning strategy: auto, ddp, fsdp."""
    num_workers: int = Field(2, ge=0)
    """Processes that load training data."""
    patience: int = Field(10, ge=1)
    """Epochs without a better val/auc before training stops."""
    augment: bool = True
    """Flip, colour, blur, noise and compression of the faces in training, the same for all frames of a clip."""
    balance: bool = True
    """Draw real and fake clips equally often in training."""
    train_on: Literal["all", "real"] = "all"
    """`real` drops fakes from the training split; what is validated and tested on stays as it is."""
    fakes: list[str] = []
    """Fakes to make of the real training clips, each epoch others: kinds of docs/made_fakes.md, such as sbv or offset:0.5
    (half as many). Needs train_on=real. A split without fakes of its own is validated or tested on made ones."""
    fakes_per_real: int = Field(1, ge=1)
    """Fakes of a real clip that are shown in one batch with it; 1 + fakes_per_real divides train_batch_size."""
    fake_seconds: float = Field(3.0, ge=0.8)
    """With fakes: longest stretch of a clip that is shown, of both classes alike."""
    fake_tooled: float = Field(0.5, ge=0, le=1)
    """With fakes: share of clips, of both classes alike, whose whole sound passed the vocoder or codec of the fake unchanged.
    0 lets the traces of vocoders count as forgery, which they are in made speech and are not in re-encoded speech."""
    fake_landmarks: Literal[5, 68] = 5
    """With fakes: landmarks by which faces are outlined, the five of the bundle or dlib's 68 (extra `landmarks`)."""
    max_videos_per_class: int | None = Field(None, ge=1)
    """Training clips of each class, at most, drawn by seed; null takes all."""
    training_datasets: list[str] = []
    """Corpora to train on, by the split's column `corpus` (or 2D3MF's names, such as Forensics++); empty takes all."""
    eval_datasets: list[str] = []
    """Corpora to test on, each with an AUC of its own; one that is not trained on is tested on with all its clips."""
    runs_path: str = "runs"
    """Folder for training runs; each has its own below it."""
    wandb: Literal["off", "offline", "online"] = "off"
    """Weights & Biases logging; `online` needs a login and never prompts for one."""
    wandb_project: str = "visavox"
    """Weights & Biases project."""

    # Scoring
    score_precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the detector in scoring; `auto` is bf16 where the GPU or the processor computes it, else fp32."""
    failure_prior: float = Field(0.5, ge=0, le=1)
    """P(fake) of a video that could not be scored (no face, too short, unreadable)."""
    save_details: bool = True
    """Write a details file beside the submission: status, reason and seconds of each video."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Config":
        faults = []
        if self.bundle_faces < self.frame_num:
            faults.append(
                f"bundle_faces={self.bundle_faces} is smaller than frame_num={self.frame_num}; raise bundle_faces"
            )
        reference = self.detector if isinstance(self.detector, TimeSformerSyncNetConfig) else None
        if reference and self.frame_size % reference.patch_size:
            faults.append(f"detector.patch_size={reference.patch_size} does not divide frame_size={self.frame_size}")
        if self.sync == "syncnet" and self.resample_rate != 16000:
            faults.append(
                f"sync=syncnet needs resample_rate=16000, found {self.resample_rate}; or set sync=correlation"
            )
        faults += self._faults_of_fakes()
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults_of_fakes(self) -> list[str]:
        """Why fakes cannot be made as the settings ask."""
        if not self.fakes:
            return []
        faults = []
        try:
            fakes.weights(self.fakes)
        except ValueError as error:
            faults.append(str(error))
        if self.train_on != "real":
            faults.append("fakes are made of real clips and shown with no others; set train_on=real")
        if self.train_batch_size % (1 + self.fakes_per_real):
            faults.append(
                f"train_batch_size={self.train_batch_size} is no multiple of 1 + fakes_per_real={1 + self.fakes_per_real}, "
                "so that a real clip and its fakes would stand in two batches"
            )
        if self.detector.name in ("anomaly", "xception_fused"):
            faults.append(f"detector.name={self.detector.name} learns from no fakes; leave fakes out")
        if not self.store_track:
            faults.append("fakes are made of the track; set store_track=true and crop with it")
        return faults

    def prep(self) -> dict[str, Any]:
        """The settings that decide what a bundle holds, in the order of their declaration."""
        fields = type(self).model_fields.items()
        return {name: getattr(self, name) for name, field in fields if Prep in field.metadata}
