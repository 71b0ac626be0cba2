"""Fakes made of real clips: `forge` one, or leave one `untouched` that took the same road.

    fake = forge("sbv", bundle, measure, seed=[100, 0, 7])
    real = untouched(bundle, measure, seed=[100, 0, 7], beside="sbv")

Both are functions of the bundle and the seed alone. With equal seeds they show the same stretch of the clip, went through the
same tool and the same codecs, and differ by the forgery. `forge_one` draws the kind, and another one where that changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from visavox.bundle import Bundle, BundleError
from visavox.config.fakes import BOTH, KINDS, PICTURE, SOUND
from visavox.pseudofakes import picture, voice
from visavox.pseudofakes.footage import Footage, Measure, put_together, spare_frames, take
from visavox.pseudofakes.forgery import Forgery, Generator, Segment, Span, short_span
from visavox.pseudofakes.road import travel
from visavox.pseudofakes.vocoders import TOOLS

MARK = "made: "
"""How the line of a bundle's notes begins that says what was made of it."""
TOOLED = 0.5
"""Share of clips, of both classes, whose whole sound passed the vocoder or codec of their kind without any change: what a tool
leaves behind then says nothing, and only parts that sound otherwise than the rest do. 0 makes its traces a sign of forgery."""
TRIES = 5
NEEDS_OTHER = ("swap", "voice_swap", "cut")
"""What borrows the sound, or the picture, of somebody else."""

GENERATORS: dict[str, Generator] = {
    "sbv": picture.sbv,
    "region": picture.region,
    "shift_blend": picture.shift_blend,
    "splice_picture": picture.splice_picture,
    "cut": picture.cut,
    **{kind: partial(voice.with_tool, kind=kind) for kind in TOOLS},
    "splice_sound": voice.splice_sound,
    "offset": voice.offset,
    "swap": voice.swap,
    "avss": voice.avss,
}
PLANTED = (*(kind for kind in PICTURE if kind != "cut"), *SOUND, "swap")
"""What `planted` plants."""


class NothingChanged(BundleError):
    """Draw after draw of a kind left a clip as it was, such as splices of silence."""


class Fake(NamedTuple):
    """A clip that was forged."""

    bundle: Bundle
    kind: str
    """One of KINDS; of `planted` with what was planted behind a colon."""
    segments: tuple[Segment, ...]
    """What is forged, in frames of the bundle."""
    masks: np.ndarray | None
    """(T, S, S) uint8, 255 times the share of the forgery in each pixel; None where it has no outline."""


def forge(
    kind: str,
    bundle: Bundle,
    measure: Measure | None,
    *,
    seed: Sequence[int],
    turn: int = 0,
    other: Bundle | None = None,
    seconds: float | None = None,
    road: bool = True,
    tooled: float = TOOLED,
    landmarks: int = 5,
    beside: str = "",
) -> Fake:
    """Make a fake of a real clip.

    Args:
        kind: one of KINDS.
        bundle: loaded whole, with its track.
        measure: audio-visual distances, as `preprocessing.tools.build_sync` gives them.
        seed: of stretch, tool and road, which a real clip with the same seed has too.
        turn: which of several fakes of one clip; it enters the forgery alone.
        other: a clip of somebody else, for those in NEEDS_OTHER, and `planted`.
        seconds: longest stretch; None: all of the clip.
        road: whether the clip takes the road at all.
        tooled: as TOOLED.
        landmarks: that faces are outlined by: 5, or 68 with the extra `landmarks`.
        beside: the kind whose tool the whole clip passes, as the real clip beside it does; its own without.

    Raises:
        BundleError: the clip is too short or has no track or no sound for it, or somebody else's is missing.
        NothingChanged: TRIES draws changed neither a pixel nor a sample.
    """
    if kind not in KINDS:
        raise BundleError(f"{kind!r} is no kind of fake; known: {', '.join(KINDS)}")
    footage, rng = replace(_stretch(bundle, seed, seconds), points=landmarks), np.random.default_rng([*seed, 3, turn])
    borrowed = None if other is None else _sound_alone(other)
    span, generator, name = (0, footage.length), kind, kind
    if kind == "planted":
        span = short_span(span, rng, float(bundle.fps))
        possible = [each for each in PLANTED if _possible(each, footage, borrowed)]
        generator = str(rng.choice(possible))
        name = f"planted:{generator}"
    if not _possible(generator, footage, borrowed):
        lacks = "somebody else's picture" if generator == "cut" else "sound"
        raise BundleError(f"{kind} needs {lacks}{', also of somebody else' if generator in NEEDS_OTHER[:2] else ''}")
    if road:
        tool = _planned(beside, footage, borrowed, seed, turn) if beside else generator
        footage = _tooled(footage, seed, borrowed, tool, tooled)
    before = footage
    for _ in range(TRIES):  # a splice of silence, say, changes nothing: draw again
        forged = GENERATORS[generator](before, span, rng, borrowed)
        if _differs(before, forged):
            break
    else:
        raise NothingChanged(f"{TRIES} draws of {name} change neither a pixel nor a sample of it")
    made = forged.footage
    if road:
        made = travel(made, np.random.default_rng([*seed, 2]))
    mark = f"{MARK}{name} {json.dumps([list(segment) for segment in forged.segments])}, seed {[*seed, turn]}"
    return Fake(put_together(made, measure, mark), name, forged.segments, forged.masks)


def forge_one(
    shares: Mapping[str, float],
    bundle: Bundle,
    measure: Measure | None,
    *,
    seed: Sequence[int],
    turn: int = 0,
    lent: bool = True,
    **how: Any,
) -> Fake | None:
    """Make a fake of a kind that is drawn, as `draw_kind`; of another one where that changes nothing.

    Args:
        how: as for `forge`.

    Returns:
        None where no kind of `shares` changes the clip: it stays real.

    Raises:
        BundleError: as `draw_kind` and `forge`.
    """
    first = kind = draw_kind(shares, bundle, seed, turn, lent=lent)
    left = dict(shares)
    while True:
        try:
            return forge(kind, bundle, measure, seed=seed, turn=turn, beside=first, **how)
        except NothingChanged:
            del left[kind]
        try:
            kind = draw_kind(left, bundle, seed, turn, lent=lent)
        except BundleError:
            return None


def kind_of(bundle: Bundle) -> str:
    """Return the kind that a made bundle's notes name, of `planted` the one that was planted; "" where nothing was forged."""
    lines = [line.removeprefix(MARK) for line in bundle.notes.split("\n") if line.startswith(MARK)]
    kind = lines[-1].split(" ")[0].split(":")[-1] if lines else ""
    return kind if kind in KINDS else ""


def untouched(
    bundle: Bundle,
    measure: Measure | None,
    *,
    seed: Sequence[int],
    beside: str = "",
    other: Bundle | None = None,
    seconds: float | None = None,
    road: bool = True,
    tooled: float = TOOLED,
) -> Bundle:
    """Return a real clip that took the road a fake with the same seed takes.

    Args:
        beside: kind of that fake, of turn 0, whose tool the clip passes where the fake does.
        other: as `forge`'s, for a tool that listens to somebody else.
    """
    footage = _stretch(bundle, seed, seconds)
    if road:
        borrowed = None if other is None else _sound_alone(other)
        footage = _tooled(footage, seed, borrowed, _planned(beside, footage, borrowed, seed), tooled)
        footage = travel(footage, np.random.default_rng([*seed, 2]))
    return put_together(footage, measure, f"{MARK}untouched, seed {[*seed]}")


def draw_kind(
    shares: Mapping[str, float], bundle: Bundle, seed: Sequence[int], turn: int = 0, *, lent: bool = True
) -> str:
    """Draw one of the kinds that a clip allows: without sound those of the picture, no offset where it is too short for one.

    Args:
        shares: kind -> weight.
        lent: whether there is a clip of somebody else.

    Raises:
        BundleError: it allows none.
    """
    heard = bundle.has_sound and bundle.audio is not None and bool(bundle.audio.any())
    short = spare_frames(bundle)[0] < voice.LEAST_OFFSET
    allowed = {
        kind: share
        for kind, share in shares.items()
        if (kind in PICTURE and (lent or kind not in NEEDS_OTHER))
        or kind == "planted"
        or (heard and (lent or kind not in NEEDS_OTHER) and not (short and kind in ("offset", "avss")))
    }
    if not allowed:
        raise BundleError(
            f"no kind of {', '.join(shares)} can be made of it ({'' if heard else 'no sound, '}{bundle.track_frames} frames); "
            "add sbv to fakes"
        )
    share = np.array(list(allowed.values()))
    rng = np.random.default_rng([*seed, 4, turn])
    return str(rng.choice(list(allowed), p=share / share.sum()))


def _stretch(bundle: Bundle, seed: Sequence[int], seconds: float | None) -> Footage:
    return take(bundle, seconds, np.random.default_rng([*seed, 0]))


def _plan(footage: Footage, other: Footage | None, rng: np.random.Generator) -> tuple[Span, str]:
    """Draw where `planted` plants, and what."""
    span = short_span((0, footage.length), rng, float(footage.bundle.fps))
    return span, str(rng.choice([kind for kind in PLANTED if _possible(kind, footage, other)]))


def _planned(kind: str, footage: Footage, other: Footage | None, seed: Sequence[int], turn: int = 0) -> str:
    """Return what a fake with this seed forges: of `planted` what it plants, of others the kind itself."""
    return _plan(footage, other, np.random.default_rng([*seed, 3, turn]))[1] if kind == "planted" else kind


def _tooled(footage: Footage, seed: Sequence[int], other: Footage | None, kind: str, share: float) -> Footage:
    rng = np.random.default_rng([*seed, 1])
    return voice.unchanged_by(footage, rng, other, kind) if rng.random() < share else footage


def _sound_alone(bundle: Bundle) -> Footage:
    """A clip of which only the sound is wanted: no picture is decoded."""
    if bundle.audio is None:
        raise BundleError("fakes need whole bundles; load them with full=True")
    nothing = np.zeros(0, np.int64)
    blank = np.zeros((0, 1, 1, 3), np.uint8)
    return Footage(bundle, nothing, 0, blank, np.zeros((0, 5, 2), np.float32), bundle.audio, bundle.audio, 0, 0)


def _possible(kind: str, footage: Footage, other: Footage | None) -> bool:
    if kind in PICTURE:
        return kind not in NEEDS_OTHER or other is not None
    lent = other is not None and bool(other.sound.any())
    return bool(footage.sound.any()) and (kind not in NEEDS_OTHER or lent)


def _differs(before: Footage, forged: Forgery) -> bool:
    pictures = not np.array_equal(before.frames, forged.footage.frames)
    return pictures or not np.array_equal(before.sound, forged.footage.sound)


assert set(GENERATORS) == set(KINDS) - {"planted"} and "planted" in BOTH
