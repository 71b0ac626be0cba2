"""What a file may be, told from its first bytes alone: no decoder is started for what cannot be a video."""

from __future__ import annotations

HEAD = 4096
"""Bytes that `kind_of` wants to see; of a shorter file all of them."""

BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof", b"pnot", b"uuid", b"sidx")
"""First boxes of ISO media files and of QuickTime's."""
STARTS = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"FLV\x01": "flv",
    b"OggS": "ogg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"\x00\x00\x01\xba": "mpeg",
    b"\x00\x00\x01\xb3": "mpegvideo",
    b"\x00\x00\x00\x01": "h264 or hevc",
    b"\x00\x00\x01": "h264 or hevc",
    b"GIF8": "gif",
}
PACKETS = ((188, 0), (192, 4), (204, 0))
"""Length of MPEG-TS packets and where in them the sync byte is: broadcast, Blu-ray, with parity."""


def kind_of(head: bytes) -> str | None:
    """Return what the first bytes of a file look like, in libavformat's words; None where it is no kind that is read.

    Args:
        head: the first HEAD bytes, or all of a shorter file.
    """
    if head[4:8] in BOXES:
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    for start, kind in STARTS.items():
        if head.startswith(start):
            return kind
    for length, at in PACKETS:
        if len(head) > at + 2 * length and all(head[at + n * length] == 0x47 for n in range(3)):
            return "mpegts"
    return None
