"""Real clips with speech of espeak-ng in place of their voice: fakes that nothing in Visavox makes."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ESPEAK_VOICES = ("en-us", "en-gb", "de", "fr", "es")
TEXT = (
    "The council met again on Tuesday to discuss the new bridge, and although nobody agreed on its colour, everyone wanted it "
    "to be finished before the rain begins in autumn."
)
CODED = "aac_64"
"""What real and spoken sound pass alike before they are compared."""


def speak(out: Path, clips: pd.DataFrame) -> pd.DataFrame:
    """`Sets.spoken`: speech of espeak-ng as loud as a clip's own sound; no rows where espeak-ng is not installed."""
    from visavox.bundle import Bundle

    rows: list[dict[str, Any]] = []
    if shutil.which("espeak-ng") is None:
        return pd.DataFrame(rows, columns=["filepath", "label", "identity", "method", "fold"])
    (out / "spoken").mkdir(exist_ok=True)
    for index, row in enumerate(clips[clips["label"] == 0].itertuples()):
        bundle = None
        for label, name in enumerate(("real", "said")):
            place = out / "spoken" / f"{name}_{Path(str(row.file)).stem}.npz"
            common = {"identity": row.identity, "fold": row.fold, "method": "espeak-ng" if label else "-"}
            rows.append({"filepath": str(place.relative_to(out)), "label": label} | common)
            if place.is_file():
                continue
            bundle = bundle or Bundle.load(out / str(row.filepath))
            sound = said(index, bundle.sound, bundle.sample_rate) if label else bundle.sound
            with_sound(bundle, sound).save(place)
    return pd.DataFrame(rows)


def said(index: int, like: np.ndarray, rate: int) -> np.ndarray:
    """Speech of espeak-ng, voice, pitch and speed by `index`, as long and as loud as `like` (N,) int16."""
    from visavox.media.recode import resample

    voice = [
        "-v",
        ESPEAK_VOICES[index % len(ESPEAK_VOICES)],
        "-p",
        str(35 + 7 * index % 40),
        "-s",
        str(140 + 6 * index % 50),
    ]
    wav = subprocess.run(["espeak-ng", "--stdout", *voice, TEXT], capture_output=True, check=True).stdout
    speech = resample(np.frombuffer(wav[44:], np.int16), int.from_bytes(wav[24:28], "little"), rate)
    speech = np.resize(speech, len(like)).astype(np.float64)
    level = np.sqrt(np.mean(np.square(like, dtype=np.float64)) / np.mean(speech**2))
    return np.clip(speech * level, -32768, 32767).astype(np.int16)


def with_sound(bundle: Any, sound: np.ndarray) -> Any:
    """The bundle with this sound (N,) int16 encoded once more, and all that follows from it."""
    from visavox.features.audio import mel_3cs
    from visavox.features.sync import correlation_sync
    from visavox.media.recode import CODECS, recode_sound

    sound = recode_sound(sound, bundle.sample_rate, CODECS[CODED])
    crops = [bundle.frame(t) for t in range(bundle.track_frames)]
    sync = correlation_sync(crops, bundle.landmarks, sound, bundle.sample_rate)
    changes: dict[str, Any] = {name: np.asarray(value, np.float32) for name, value in sync._asdict().items()}
    mel = mel_3cs(sound, bundle.sample_rate, bundle.mel_3cs.shape[1])
    return replace(bundle, audio=sound, mel_3cs=mel, **changes)
