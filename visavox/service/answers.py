"""The shapes of the service's answers, as /openapi.json describes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from visavox.service.store import NAMES, Progress


class Result(BaseModel):
    """A verdict."""

    verdict: Literal["Deepfake", "Authentic", "Undetermined"]
    """Undetermined where the confidence is too low, or there is nothing to judge by."""
    confidence: float = Field(ge=0, le=100)
    """Of the verdict, percent."""


class Status(BaseModel):
    """How far an analysis is."""

    analysisId: str
    """UUID version 4."""
    status: Literal["processing", "complete", "error"]
    percent: int = Field(ge=0, le=100)
    """Never goes back."""
    stageName: Literal["Queued", "Extracting frames", "Running models", "Final classification"]
    stage: Literal["queued", "ingest", "container", "faces", "voice", "sync", "gate", "models", "fusion", "done"]
    """The finer stage."""
    detail: str | None
    """Such as the branch that has just ended."""
    result: Result | None
    """Once it is complete."""
    error: str | None
    """What went wrong, with its cure."""
    code: str | None
    """Stable code of the error."""

    @classmethod
    def of(cls, id: str, progress: Progress) -> Status:
        """Return what is answered of a job's progress."""
        result = None
        if progress.verdict is not None:
            result = Result.model_validate({"verdict": progress.verdict, "confidence": progress.confidence})
        return cls.model_validate(
            {
                "analysisId": id,
                "status": progress.status,
                "percent": progress.percent,
                "stageName": NAMES[progress.stage],
                "stage": progress.stage,
                "detail": progress.detail,
                "result": result,
                "error": progress.error,
                "code": progress.code,
            }
        )


class Observed(BaseModel):
    """A fact of container or codec, which is no part of the score."""

    name: str
    value: str
    note: str


class Stage(BaseModel):
    """What a stage, or a branch, took."""

    name: str
    seconds: float


class Analysed(BaseModel):
    """Everything that is known of an upload."""

    analysisId: str
    fileName: str
    """Fit to be shown."""
    sha256: str
    bytes: int
    created: str
    """ISO 8601, UTC."""
    finished: str | None
    """ISO 8601, UTC; null while it has not ended."""
    status: Status
    analysis: dict[str, Any] | None
    """As `visavox score --json` prints it; null before the end, and where there is none."""
    why: str | None
    """One sentence."""
    observations: list[Observed]
    stages: list[Stage]
    provenance: dict[str, Any] | None
    """checkpoint, prep_hash, commit, version, calibration."""
    media: dict[str, Any] | None
    """seconds, width, height, fps, hasSound."""


class Feedback(BaseModel):
    """What somebody knows the video to be."""

    model_config = ConfigDict(extra="forbid", strict=True)
    label: Literal[0, 1]
    """0 real, 1 fake."""


class Limits(BaseModel):
    """What may be uploaded."""

    maxBytes: int
    maxSeconds: float
    maxPixels: int
    maxSide: int
    minSide: int
    maxFps: float
    queueLength: int
    uploadsPerClient: int
    accept: list[str]
    """Endings of files that are likely to be read; the content decides."""
    retentionMinutes: float
    """For which an upload is kept after its end."""


class Model(BaseModel):
    """What judges."""

    detector: str
    branches: list[str]
    calibration: str
    demo: bool
    """Trained on synthetic clips: it says nothing about real videos."""


class Health(BaseModel):
    """Whether the service answers, or can judge."""

    status: Literal["ok"]


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Stable; programs decide by it."""
    cure: str | None = None
    """What to do about it."""
