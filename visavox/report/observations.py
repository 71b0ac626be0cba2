"""What a media file says of itself: container, codecs, what reading it noticed, and its provenance manifest (C2PA).

None of it is part of any score. The manifest needs `pip install visavox[provenance]`; it is read without the network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visavox.files import sha256_of
from visavox.report.evidence import Observation

ABSENT = "absence proves nothing: most genuine videos carry none, and it is lost when a file is converted"


def observe(path: str | Path) -> list[Observation]:
    """Return the facts of a video or picture, the provenance manifest last.

    Raises:
        MediaError: it cannot be opened as either.
    """
    from visavox import media
    from visavox.media import confined

    path = Path(path)
    if media.is_image(path):
        height, width = confined.read_image(path).shape[:2]
        facts = [Observation("picture", f"{width} x {height}, {path.suffix.lstrip('.').lower()}")]
    else:
        facts = _video(path)
    size = Observation("bytes", f"{path.stat().st_size:,}")
    return [*facts, size, Observation("sha256", sha256_of(path)), manifest(path)]


def manifest(path: str | Path) -> Observation:
    """Return what the C2PA manifest of a file says; a missing one, or a missing reader, is said as well."""
    name = "C2PA manifest"
    try:
        import c2pa
    except ImportError:
        return Observation(name, "not looked for", "its reader is not installed: pip install 'visavox[provenance]'")
    from visavox.media import confined

    if confined.insisted():
        return Observation(name, "not looked for", "its reader cannot be confined, and confine=require asks for that")
    quiet = c2pa.Settings.from_dict({"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}})
    try:
        reader = c2pa.Reader.try_create(Path(path), context=c2pa.Context(quiet))
    except c2pa.C2paError as error:
        return Observation(name, "cannot be read", f"{type(error).__name__}: {error}")
    if reader is None:
        return Observation(name, "none", ABSENT)
    with reader:
        found = json.loads(reader.json())
        state = reader.get_validation_state() or "unknown"
    active = found.get("manifests", {}).get(found.get("active_manifest"), {})
    return Observation(
        name, _described(active), f"validation: {state}; {_problems(found)}it says who signed, not what is true"
    )


def _described(active: dict[str, Any]) -> str:
    signer = active.get("signature_info", {})
    makers = ", ".join(
        " ".join(filter(None, (each.get("name"), each.get("version"))))
        for each in active.get("claim_generator_info", ())
    )
    actions = [
        action.get("action", "").removeprefix("c2pa.")
        for assertion in active.get("assertions", ())
        if assertion.get("label", "").startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", ())
    ]
    parts = {
        "made by": makers or active.get("claim_generator", ""),
        "signed by": signer.get("common_name") or signer.get("issuer", ""),
        "on": signer.get("time", ""),
        "actions": ", ".join(actions),
    }
    return "; ".join(f"{key} {value}" for key, value in parts.items() if value) or "present"


def _problems(found: dict[str, Any]) -> str:
    codes = [each.get("code", "") for each in found.get("validation_status", ())]
    return f"{', '.join(codes)}; " if codes else ""


def _video(path: Path) -> list[Observation]:
    from visavox.media import confined

    info, notes, hints = confined.describe(path)
    rate = "unknown" if info.fps is None else f"{info.fps:.3f} frames a second"
    length = "unknown" if info.duration is None else f"{info.duration:.2f} s"
    sound = "none"
    if info.audio_codec:
        sound = f"{info.audio_codec}, {info.sample_rate or 0:,} Hz, {info.channels or 0} channels"
    facts = [
        Observation("container", info.container),
        Observation("video", f"{info.video_codec}, {info.width} x {info.height}, {info.pixel_format}, {rate}"),
        Observation("length", length),
        Observation("sound", sound, "" if info.audio_codec else "the voice cannot be judged"),
    ]
    if info.rotation:
        facts.append(Observation("rotation", f"{info.rotation} degrees", "recorded upright by a phone, as a rule"))
    facts += [Observation(*hint) for hint in hints]
    return facts + [Observation("reading", note) for note in notes]
