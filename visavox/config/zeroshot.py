"""Settings of the scores that need no training."""

from typing import Literal

from pydantic import Field

from visavox.config.base import Settings


class ZeroShotConfig(Settings):
    """Mouth against voice at every shift, as a score; nothing is trained."""

    name: Literal["zeroshot"] = "zeroshot"
    """Which detector; each has settings of its own."""
    score: Literal["distance", "cosine", "centre", "percentile"] = "cosine"
    """`distance`: mean distance at the best shift; `cosine`: the highest mean cosine of all shifts (SpeechForensics);
    `centre`: how unlikely shift 0 is among all (AVH-Align); `percentile`: the 3rd percentile over time of the cosine at shift 0
    (FACTOR)."""
    encoder: Literal["correlation", "syncnet"] = "correlation"
    """What is compared: the mouth's opening with the voice's rising, without weights, or SyncNet's embeddings."""
    window: int = Field(25, ge=5, le=125)
    """Frames of a window of the correlation; SyncNet's are five."""
    stride: int = Field(1, ge=1, le=25)
    """Windows begin at every n-th frame."""
    temperature: float = Field(0.1, gt=0)
    """Of the softmax over shifts, of `centre`."""
    speech: Literal["off", "energy", "silero"] = "off"
    """Count only windows half of which is speech, by loudness or by Silero's network (extra `vad`)."""
    threshold: float | None = None
    """Score at which P(fake) is 0.5, from real clips: `visavox zeroshot`. null: not calibrated, P only ranks."""
    spread: float = Field(1.0, gt=0)
    """Deviation of the scores of those real clips, in which the distance from the threshold is counted."""
    false_positive_rate: float = Field(0.05, gt=0, lt=1)
    """Share of real clips that lie above the threshold."""
    calibrated_on: str = ""
    """The real clips, in words."""
