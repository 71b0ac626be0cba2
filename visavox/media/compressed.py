"""What the compressed file tells before anything is decoded: hints for people, which enter no score.

    for name, value, note in hints("clip.mp4"):
        ...

Read are the header and the sizes, stamps and flags of at most PACKETS packets of the picture. A file that was encoded again, or
cut and joined, is not forged for that: almost everything that went through a messenger or a site was.
"""

from __future__ import annotations

import os
import re
from statistics import mean
from typing import NamedTuple

import av
from av.container import InputContainer

from visavox.files import shown
from visavox.media.container import RegularFile, choose_video, open_container, open_regular
from visavox.media.limits import LIMITS, Limits

PACKETS = 20_000
"""Of the picture that are looked at: more than a minute at 240 frames a second."""
HEAD_BYTES = 64 << 10
"""Of the first picture that are searched for the encoder's own words (SEI of H.264 and HEVC)."""
LONGEST_VALUE = 200
"""Characters of a value that comes from the file."""
LOW_BITS = 0.03
"""Bits per pixel and frame below which compression shows: fine traces are gone."""
REWRITERS = {
    "Lavf": "FFmpeg wrote this container: the file was converted, cut or re-encoded after it was recorded",
    "HandBrake": "HandBrake converted this file",
    "Google": "a Google service, such as YouTube, wrote this file",
}
"""What an `encoder` tag begins with -> what it tells."""


class Hint(NamedTuple):
    """One fact of a file."""

    name: str
    """Such as `bit rate`."""
    value: str
    """With its unit."""
    note: str = ""
    """What it may mean; empty where it means nothing by itself."""


def hints(path: str | os.PathLike | RegularFile, *, limits: Limits = LIMITS) -> list[Hint]:
    """Return what the file tells about itself, the container first.

    Raises:
        MediaError: not a video, unreadable, beyond the limits.
    """
    opened = path.again() if isinstance(path, RegularFile) else open_regular(os.fsdecode(path))
    with opened as file, open_container(file.name, file, limits) as container:
        stream = choose_video(file.name, container, limits)
        found = [*_of_container(container, file.size), *_of_stream(stream)]
        return found + _of_packets(container, stream)


def _of_container(container: InputContainer, size: int) -> list[Hint]:
    found = []
    if container.duration:
        found.append(Hint("bit rate", f"{size * 8e-3 / (container.duration / av.time_base):.0f} kbit/s, all streams"))
    tags = {key.lower(): value for key, value in container.metadata.items()}
    for key in ("encoder", "comment", "com.apple.quicktime.software", "com.android.version", "writing_application"):
        if tags.get(key):
            note = next((words for start, words in REWRITERS.items() if tags[key].startswith(start)), "")
            found.append(Hint("written by" if key == "encoder" else key, _bounded(tags[key]), note))
    for key in ("com.apple.quicktime.model", "com.apple.quicktime.make", "com.android.capture.fps", "model", "make"):
        if tags.get(key):
            found.append(Hint("recorded with", _bounded(tags[key]), "a camera's own tag; it can be written by anyone"))
            break
    return found


def _of_stream(stream: av.VideoStream) -> list[Hint]:
    words = stream.metadata.get("encoder") or ""
    found = [Hint("profile", str(stream.profile))] if stream.profile else []
    return [*found, Hint("picture encoded by", _bounded(words), _of_encoder(words))] if words else found


def _of_packets(container: InputContainer, stream: av.VideoStream) -> list[Hint]:
    """What sizes, stamps and key frames tell; nothing is decoded."""
    sizes: list[int] = []
    keys: list[int] = []
    words = ""
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or len(sizes) == PACKETS:
                break
            if not sizes:
                words = _encoder_words(bytes(packet)[:HEAD_BYTES])
            if packet.is_keyframe:
                keys.append(len(sizes))
            sizes.append(packet.size)
    except (av.FFmpegError, OSError, IndexError):  # IndexError: PyAV 18, where streams appear while it reads (MPEG-TS)
        pass  # what could be read is described; that the rest is damaged is said where frames are decoded
    if not sizes:
        return []
    found = []
    if words:
        found.append(Hint("encoder's own words", _bounded(words), _of_encoder(words)))
    rate = float(stream.average_rate or 0)
    gaps = [b - a for a, b in zip(keys, keys[1:])]
    if gaps:
        regular = max(gaps) - min(gaps) <= 1
        note = "" if regular else "irregular: a scene-cut decision of the encoder, or pieces that were joined"
        seconds = f" ({mean(gaps) / rate:.1f} s)" if rate else ""
        found.append(Hint("key frames", f"every {mean(gaps):.0f} frames{seconds}, {min(gaps)} to {max(gaps)}", note))
    elif len(sizes) > 1:
        found.append(Hint("key frames", f"{len(keys)} in {len(sizes)} frames"))
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels and len(sizes) > 1:
        bits = 8 * mean(sizes) / pixels
        note = "strongly compressed: fine traces of forging, and of its absence, are gone" if bits < LOW_BITS else ""
        found.append(Hint("bits per pixel", f"{bits:.3f}", note))
    return found


def _encoder_words(packet: bytes) -> str:
    """Return what x264 and x265 write about themselves into the first picture; empty where there is nothing."""
    match = re.search(rb"(x264 - core \d+[^\x00]{0,400}|x265 \(build \d+\)[^\x00]{0,400})", packet)
    if not match:
        return ""
    words = match[1].decode("ascii", "replace")
    kept = re.findall(r"\b((?:crf|bitrate|qp|rc|keyint)=[\w.]+)", words)
    return " ".join([words.split(" - H.264")[0].split(":")[0].strip(), *kept])


def _of_encoder(words: str) -> str:
    if words.startswith(("x264", "x265", "Lavc")):
        return "a software encoder: cameras and phones have other ones, so this picture was encoded again"
    return ""


def _bounded(text: str) -> str:
    clean = shown(text)
    return clean if len(clean) <= LONGEST_VALUE else clean[: LONGEST_VALUE - 1] + "…"
