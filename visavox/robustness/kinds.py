"""Every kind of perturbation with its five levels, from mild to strong.

KINDS["blur"].levels                      # (7, 9, 13, 17, 21)
KINDS["blur"].picture(frames, 13, rng)    # frames (H, W, 3) uint8 one after the other -> as many
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visavox.robustness import joint, picture, sound

Picture = Callable[[Iterator[np.ndarray], float, np.random.Generator], Iterator[np.ndarray]]
Sound = Callable[[np.ndarray, int, float, np.random.Generator], np.ndarray]
LEVELS = 5


@dataclass(frozen=True)
class Kind:
    """One kind of perturbation."""

    name: str
    group: Literal["picture", "sound", "joint"]
    levels: tuple[float, ...]
    """The constant of each level, from mild to strong."""
    unit: str
    """What the constant is, in words."""
    picture: Picture | None = None
    sound: Sound | None = None


def _picture(name: str, function: Picture, unit: str, *levels: float) -> Kind:
    return Kind(name, "picture", levels, unit, picture=function)


def _sound(name: str, function: Sound, unit: str, *levels: float) -> Kind:
    return Kind(name, "sound", levels, unit, sound=function)


_ALL = (
    _picture("saturation", picture.saturation, "share of colour kept", 0.4, 0.3, 0.2, 0.1, 0.0),
    _picture("contrast", picture.contrast, "values times", 0.85, 0.725, 0.6, 0.475, 0.35),
    _picture("blocks", lambda f, n, rng: picture.blocks(f, int(n), rng), "grey blocks", 16, 32, 48, 64, 80),
    _picture("noise", picture.noise, "variance", 0.001, 0.002, 0.005, 0.01, 0.05),
    _picture("blur", lambda f, n, rng: picture.blur(f, int(n), rng), "kernel in pixels", 7, 9, 13, 17, 21),
    _picture("pixelation", lambda f, n, rng: picture.pixelation(f, int(n), rng), "shrunk by", 2, 3, 4, 5, 6),
    _picture("compression", lambda f, n, rng: picture.compression(f, int(n), rng), "x264 CRF", 30, 32, 35, 38, 40),
    _sound("white_noise", sound.white_noise, "dB below the sound", 30, 20, 10, 5, 0),
    _sound("music", sound.music, "dB below the sound", 20, 15, 10, 5, 0),
    _sound("aac", sound.aac, "kbit/s", 64, 32, 24, 16, 12),
    _sound("mp3", sound.mp3, "kbit/s", 64, 48, 32, 24, 16),
    _sound("opus", sound.opus, "kbit/s", 32, 24, 16, 10, 6),
    _sound("telephone", sound.telephone, "kbit/s of AMR-NB", 12.2, 10.2, 7.95, 5.9, 4.75),
    _sound("band", sound.band, "kHz of sampling", 12, 8, 6, 4, 2),
    _sound("clipping", sound.clipping, "share of samples at the limit", 0.02, 0.05, 0.1, 0.2, 0.4),
    _sound("reverberation", sound.reverberation, "s until 60 dB lower", 0.2, 0.4, 0.6, 0.9, 1.3),
    _sound("gain", sound.gain, "dB", -6, -12, -20, -30, -40),
    _sound("mute", sound.mute, "share of the clip", 0.1, 0.2, 0.3, 0.4, 0.5),
    Kind(
        "uploads",
        "joint",
        (1, 2, 3, 4, 5),
        "uploads to platforms in a row",
        lambda f, n, rng: joint.uploads(f, int(n), rng),
        lambda s, rate, n, rng: joint.uploads_of_sound(s, rate, int(n), rng),
    ),
    Kind("late", "joint", (1, 2, 3, 5, 10), "frames that the sound is late", sound=joint.late),
    Kind("early", "joint", (-1, -2, -3, -5, -10), "frames that the sound is late", sound=joint.late),
    Kind("dropped", "joint", (0.02, 0.05, 0.1, 0.2, 0.4), "share of frames lost", picture=joint.dropped),
    Kind("frame_rate", "joint", (20, 15, 12.5, 10, 5), "frames a second", picture=joint.slower),
)
KINDS = {kind.name: kind for kind in _ALL}
DEFAULT = (*(kind.name for kind in _ALL if kind.group == "picture"), "white_noise")
"""Eight kinds that are measured where none are named: the published seven of the picture, and noise in the sound."""


class UnknownKind(ValueError):
    """There is no such kind or level; the message names those that there are."""

    code = "BAD_CONFIG"


def chosen(names: str | None) -> list[Kind]:
    """Return the kinds that `blur,aac` names; `all`, a group (`picture`, `sound`, `joint`), or None for DEFAULT.

    Raises:
        UnknownKind: names what there is.
    """
    found: dict[str, Kind] = {}
    for name in DEFAULT if names is None else names.split(","):
        some = [kind for kind in _ALL if name in (kind.name, kind.group, "all")]
        if not some:
            raise UnknownKind(
                f"{name!r} is no kind of perturbation; there are {', '.join(KINDS)}, picture, sound, joint, all"
            )
        found |= {kind.name: kind for kind in some}
    return list(found.values())


def levels_of(text: str | None) -> list[int]:
    """Return the levels that `1,3,5` names; all five without.

    Raises:
        UnknownKind: not levels.
    """
    words = text.split(",") if text else [str(level) for level in range(1, LEVELS + 1)]
    if not all(word.isdigit() and 1 <= int(word) <= LEVELS for word in words):
        raise UnknownKind(f"{text!r}: levels are numbers from 1 (mild) to {LEVELS} (strong), such as 1,3,5")
    return sorted({int(word) for word in words})
