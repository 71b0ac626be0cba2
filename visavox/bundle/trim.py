"""Remedies against timing shortcuts: the silence around speech is cut away, or a clip begins at a random moment.

    bundle = trimmed(bundle, "leading")             # the silence before speech is gone
    bundle = trimmed_as(config, bundle, rng)        # as trim_silence and temporal_jitter of a configuration say

Applied where bundles are loaded; detectors know nothing of it.

Fakes of several corpora begin with a stretch of silence that real clips lack, and a detector that hears it needs to know
nothing else (AVH-Align, Smeu et al., 2025); beginning at random moments helps as well (DeepFake Doctor, 2025). Picture and
sound are cut together, at whole frames of the 25 fps track, so that they stay in step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from visavox.bundle.schema import Bundle, BundleError
from visavox.config import Config
from visavox.features.speech import STEP, Gate, spans, speech

Ends = Literal["none", "leading", "both"]
WINDOW = 0.01
"""Seconds over which loudness is measured."""
BELOW_PEAK_DB = 40.0
"""A window this much quieter than the loudest one is silent."""
LEAST_FRAMES = 10
"""Frames of the track that a cut leaves at least; a clip that would become shorter stays whole."""


class Silence(NamedTuple):
    """Seconds of silence at both ends of a clip."""

    leading: float
    trailing: float


def silence(sound: np.ndarray, rate: int, gate: Gate = "energy") -> Silence:
    """Silent seconds at the start and the end of (N,) int16 mono; all of it when nothing is louder.

    Args:
        gate: `energy` measures loudness in steps of 10 ms; `silero` the time before and after speech in steps of 32 ms.

    Raises:
        NoSpeechModel: `silero` without the extra `vad`.
    """
    if gate == "silero":
        said = spans(speech(sound, rate, gate))
        whole = len(sound) / rate
        return (
            Silence(said[0][0] * STEP / rate, max(0.0, whole - said[-1][1] * STEP / rate))
            if said
            else Silence(whole, whole)
        )
    hop = round(WINDOW * rate)
    windows = len(sound) // hop
    if not windows or not sound.any():
        return Silence(len(sound) / rate, len(sound) / rate)
    power = np.square(sound[: windows * hop].reshape(windows, hop), dtype=np.float64).mean(1)  # (windows,)
    loud = np.flatnonzero(power > power.max() * 10 ** (-BELOW_PEAK_DB / 10))
    return Silence(float(loud[0] * hop / rate), float((windows - 1 - loud[-1]) * hop / rate))


def trimmed(
    bundle: Bundle,
    ends: Ends = "none",
    jitter: float = 0.0,
    rng: np.random.Generator | None = None,
    gate: Gate = "energy",
) -> Bundle:
    """Cut silence off the ends of a bundle and, with `rng`, let it begin at a random moment.

    Picture and sound are cut together; `times` stay those of the video's own clock. Distances, latency and confidence stay
    those of the whole clip: they were measured on pairs of sound and picture. What is cut away makes the clip shorter,
    which `visavox.audit` shows where it tells the classes apart.

    Args:
        bundle: loaded with its audio where anything is to be cut.
        ends: which silence is cut: `leading`, `both`, or `none`.
        gate: what tells speech from silence; see `silence`.
        jitter: seconds; the clip begins up to so much later, drawn uniformly from `rng`. Without `rng` nothing is drawn.

    Returns:
        The same bundle where nothing is to be cut, it has no sound, or fewer than LEAST_FRAMES frames would be left.

    Raises:
        BundleError: the bundle was loaded without its audio.
    """
    later = jitter * rng.random() if rng is not None and jitter else 0.0
    if (ends == "none" and not later) or not bundle.has_sound:
        return bundle
    if bundle.audio is None:
        raise BundleError("trim_silence and temporal_jitter need the audio; load the bundle with full=True")
    fps = float(bundle.fps)
    first, last = _span(bundle.audio, bundle.sample_rate, fps, bundle.track_frames, ends, gate)
    first += round(later * fps)
    if last - first < LEAST_FRAMES:
        return bundle
    return bundle.slice(first, last)


def trimmed_as(config: Config, bundle: Bundle, rng: np.random.Generator | None = None) -> Bundle:
    """Return `trimmed` with the `trim_silence` and, with `rng`, the `temporal_jitter` of a configuration."""
    return trimmed(bundle, config.trim_silence, config.temporal_jitter, rng, config.speech_gate)


def trimming(config: Config) -> str:
    """Return how clips are trimmed, for what has to be the same again: `leading`, or `leading (silero)`."""
    plain = config.trim_silence == "none" or config.speech_gate == "energy"
    return config.trim_silence if plain else f"{config.trim_silence} ({config.speech_gate})"


def load_trimmed(path: str | Path, config: Config, *, full: bool = True) -> Bundle:
    """Load a bundle as `config` wants it scored; with `full=False` audio and track only where the trimming needs them."""
    return trimmed_as(config, Bundle.load(path, full=full or needs_sound(config)))


def needs_sound(config: Config) -> bool:
    """Return whether bundles have to be loaded with their audio because they are trimmed."""
    return config.trim_silence != "none" or config.temporal_jitter > 0


def _span(sound: np.ndarray, rate: int, fps: float, frames: int, ends: Ends, gate: Gate) -> tuple[int, int]:
    """First frame and one past the last that are kept.

    A trimmed end always loses at least one frame, so that having been cut says nothing about a clip.
    """
    quiet = Silence(0.0, 0.0) if ends == "none" else silence(sound, rate, gate)
    first = int(quiet.leading * fps) + 1 if ends in ("leading", "both") else 0
    last = frames - int(quiet.trailing * fps) - 1 if ends == "both" else frames
    return first, last
