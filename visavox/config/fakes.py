"""Names of the fakes that `visavox.pseudofakes` makes of real clips, and how a configuration lists them."""

from difflib import get_close_matches

PICTURE = ("sbv", "region", "shift_blend", "splice_picture", "cut")
"""The picture is forged, the sound stays as it is."""
SOUND = ("griffin_lim", "world", "lpc", "codec", "voice_swap", "splice_sound")
"""The sound is forged, the picture stays as it is."""
BOTH = ("offset", "swap", "avss", "planted")
"""Picture and sound are put together wrongly; `planted` is 0.2 to 2 s of one of the above in a clip that is real otherwise."""
KINDS = (*PICTURE, *SOUND, *BOTH)
FORGED = {"video_label": PICTURE, "audio_label": SOUND}
"""Which kinds forge a half by itself; in the others both halves are genuine and do not belong together."""
NEEDS_WORLD = ("world", "voice_swap")
"""What needs the extra `fakes`."""


def weights(kinds: list[str]) -> dict[str, float]:
    """Return kind -> its share of the fakes, for words such as `sbv` and `offset:0.5`; the shares sum to 1.

    Raises:
        ValueError: an unknown kind, one listed twice, or a weight that is no number above 0.
    """
    found: dict[str, float] = {}
    for word in kinds:
        name, colon, text = word.partition(":")
        if name not in KINDS:
            near = get_close_matches(name, KINDS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"fakes: {name!r} is no kind of fake{hint} (known: {', '.join(KINDS)})")
        if name in found:
            raise ValueError(f"fakes: {name} is listed twice; write {name}:WEIGHT once")
        try:
            found[name] = float(text) if colon else 1.0
        except ValueError:
            found[name] = 0.0
        if not 0 < found[name] < float("inf"):
            raise ValueError(f"fakes: {word!r} has no weight above 0; write {name}:2 for twice as many")
    total = sum(found.values())
    return {name: share / total for name, share in found.items()}
