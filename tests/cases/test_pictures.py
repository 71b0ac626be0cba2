"""Pictures that are no plain frames: two fields woven into one, and colours that only their own metadata explains."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from tests.cases.cases import Case, held_by
from tests.cases.media_files import lamp, needs_encoder, read, record, refusal
from tests.cases.patches import PATCHES, X265_FINE, hdr_of, patches_read, planes_of, record_patches
from visavox.errors import code_of
from visavox.media import confined, open_video

STEP = 4
"""Pixels that the bar moves from one field to the next, a fiftieth of a second later."""


def moment(time: float) -> np.ndarray:
    """(96, 128, 3) uint8: a bright bar that moves across."""
    frame = np.full((96, 128, 3), 60, np.uint8)
    left = 4 + round(time * 50) * STEP % 90
    frame[20:76, left : left + 24] = 200
    return frame


def woven(first: int):
    """The picture whose lines `first`, `first` + 2, ... are those of the moment, the others those of a fiftieth later."""

    def picture(time: float) -> np.ndarray:
        frame = moment(time + 0.02)
        frame[first::2] = moment(time)[first::2]
        return frame

    return picture


def comb(frame: np.ndarray) -> float:
    """Mean difference of a line from the mean of its neighbours, in grey levels."""
    green = frame[..., 1].astype(float)
    return float(np.abs(green[1:-1] - (green[:-2] + green[2:]) / 2).mean())


WHOLE = "the comb is gone, the bar stands where the first field has it; the note says so"
X264 = {"options": {"flags": "+ildct+ilme"}}
MPEG2 = {
    "codec": "mpeg2video",
    "options": {"flags": "+ildct+ilme", "qmin": "1", "qmax": "2"},
    "sound": "mp2",
    "fields": "tff",
}


@held_by(
    Case("M14", "interlaced H.264, upper field first", WHOLE, ("v.mp4", 0, {"fields": "tff"} | X264)),
    Case("M14", "interlaced H.264, lower field first", WHOLE, ("v.mp4", 1, {"fields": "bff"} | X264)),
    Case("M14", "interlaced MPEG-2 in a transport stream", WHOLE, ("v.ts", 0, MPEG2)),
    Case("M14", "interlaced MPEG-2 in AVI", WHOLE, ("v.avi", 0, MPEG2)),
)
def test_interlaced(case: Case, tmp_path: Path):
    name, first, how = case.given
    path = record(tmp_path / name, picture=woven(first), **how)
    frames, sound, video = read(path)
    assert len(frames) == 60 and len(sound) == 60 * 640
    assert video.notes == ["interlaced: each frame is made whole from its fields (bwdif)"]
    planted = np.mean([comb(woven(first)(n / 25)) for n in range(60)])
    bare = np.mean([comb(moment(n / 25)) for n in range(60)])
    left = np.mean([comb(frame) for frame in frames])
    assert planted > 1.5 * bare and left < bare + 0.15 * (planted - bare)
    for n, frame in enumerate(frames):
        columns = np.flatnonzero(frame[30:66, :, 1].mean(0) > 130)
        there = np.flatnonzero(moment(n / 25)[48, :, 1] > 130)
        assert abs(columns.mean() - there.mean()) < STEP / 2, n


@held_by(
    Case("M14", "a comb in frames that are not flagged as interlaced", "kept, bit for bit as it is decoded; no note")
)
def test_what_is_not_flagged_is_left_alone(case: Case, tmp_path: Path):
    path = record(tmp_path / "v.mkv", picture=woven(0), codec="ffv1", pixels="bgr0", sound=None)
    frames, _, video = read(path)
    assert video.notes == []
    assert all(np.array_equal(frame, woven(0)(n / 25)) for n, frame in enumerate(frames))


@held_by(Case("M14", "interlaced from its second half on", "its second half is made whole, nothing is lost"))
def test_fields_from_the_middle_on(case: Case, tmp_path: Path):
    """Two transport streams one behind the other, as recorders that change their mode write them."""
    record(
        tmp_path / "a.ts",
        picture=moment,
        seconds=1.0,
        codec="mpeg2video",
        options={"qmin": "1", "qmax": "2"},
        sound=None,
    )
    record(tmp_path / "b.ts", picture=woven(0), seconds=2.0, picture_at=1.0, **MPEG2 | {"sound": None})
    (tmp_path / "v.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    frames, _, video = read(tmp_path / "v.ts")
    assert "interlaced: each frame is made whole from its fields (bwdif)" in video.notes
    assert len(frames) >= 49  # the moment where one ends and the other begins is shown once
    assert max(comb(frame) for frame in frames[27:]) < 0.5 * comb(woven(0)(0))


def as_dvh1(folder: Path, transfer: int) -> Path:
    """A file whose sample entry says Dolby Vision, its colours as `transfer` says (2: nothing)."""
    path = folder / "v.mp4"
    values = planes_of(hdr_of(PATCHES / 2, "PQ"), "bt2020", False, 10)
    how = {"matrix": "bt2020", "transfer": transfer, "primaries": 9, "options": X265_FINE}
    record_patches(path, "libx265", "yuv420p10le", values, **how)
    data = path.read_bytes()
    assert data.count(b"hev1") == 1
    path.write_bytes(data.replace(b"hev1", b"dvh1"))
    return path


def with_metadata(folder: Path, transfer: int) -> Path:
    """An HEVC stream with a NAL unit of type 62 behind each picture, which is where Dolby Vision's metadata stand."""
    needs_encoder("libx265")
    path = folder / "v.hevc"
    with av.open(str(path), "w", format="hevc") as container:
        video = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p10le"
        video.codec_context.color_trc = transfer
        packets = []
        for n in range(5):
            frame = av.VideoFrame.from_ndarray(lamp(n / 25, (64, 64)), format="rgb24")
            frame.pts = n
            packets += video.encode(frame)
        for packet in packets + video.encode(None):
            container.mux(av.Packet(bytes(packet) + b"\0\0\0\1\x7c\x01\x19\x04\x10\x20\x80"))
    return path


UNREADABLE = "refused as `unsupported_codec`, with what converts it"


@held_by(
    Case("M15", "Dolby Vision in colours of its own, by its sample entry", UNREADABLE, as_dvh1),
    Case("M15", "Dolby Vision in colours of its own, by the metadata of its frames", UNREADABLE, with_metadata),
)
def test_colours_that_nobody_can_read(case: Case, tmp_path: Path):
    error = refusal(case.given(tmp_path, 2))
    assert error.reason == "unsupported_codec" and code_of(error) == "UNSUPPORTED_CODEC"
    assert "IPTPQc2" in str(error) and "libplacebo" in str(error)


@held_by(
    Case("M15", "Dolby Vision over PQ", "read as PQ", as_dvh1),
    Case("M15", "Dolby Vision metadata beside ordinary colours", "read as they are", with_metadata),
)
def test_dolby_vision_that_others_can_show(case: Case, tmp_path: Path):
    if case.given is as_dvh1:
        _, notes = patches_read(case.given(tmp_path, 16))
        assert notes == ["hdr: PQ tone-mapped to standard dynamic range (ITU-R BT.2390)"]
    else:
        with open_video(case.given(tmp_path, 1)) as video:
            assert len(list(video.frames())) == 5 and video.notes == []


def test_fields_are_made_whole_in_the_confined_decoder_too(tmp_path: Path):
    path = record(tmp_path / "v.mp4", picture=woven(0), fields="tff", **X264)
    frames, _, video = read(path)
    with confined.open_video(path, confine="auto") as other:
        assert all(np.array_equal(one, same) for one, same in zip(other.frames(), frames, strict=True))
        assert other.notes == video.notes
