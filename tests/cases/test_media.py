"""Media: what people's videos do, and what Visavox makes of it. Every file is written here and read as users' files are."""

from __future__ import annotations

import os
import re
import signal
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from tests.cases.cases import Case, held_by
from tests.cases.media_files import (
    cut_by_edit_list,
    descend,
    lamp,
    lamp_time,
    measured,
    needs_encoder,
    nothing,
    ordinary_priority,
    read,
    read_mutated,
    read_numbered,
    record,
    tone,
    tone_time,
)
from visavox.media import MediaError, open_video, probe
from visavox.workers import pool


@pytest.fixture(autouse=True)
def _ordinary_priority():
    with ordinary_priority():
        yield


SAME = "lamp and tone within one frame of each other, length within one frame"
X265 = {"codec": "libx265", "options": {"x265-params": "log-level=none"}}


def timed(number: str, title: str, name: str = "v.mp4", *, frame: float = 0.04, **how) -> Case:
    """A case of the clock; `frame` is the longest time a frame of it stands."""
    return Case(number, title, SAME, (name, frame, how))


UNEVEN = [
    0,
    0.03,
    0.1,
    0.14,
    0.3,
    0.31,
    0.33,
    0.6,
    0.64,
    0.9,
    0.97,
    1.0,
    1.05,
    1.2,
    1.27,
    1.5,
    1.61,
    1.7,
    2.0,
    2.1,
    2.3,
]


@held_by(
    timed("M12", "variable frame rate in MP4", times=UNEVEN, frame=0.3),
    timed("M12", "variable frame rate in Matroska", "v.mkv", times=UNEVEN, frame=0.3),
    timed(
        "M12", "a gap of half a second in the stamps", times=[i / 25 for i in range(60) if not 20 < i < 33], frame=0.52
    ),
    timed("M12", "29.97 frames a second", fps=Fraction(30000, 1001)),
    timed("M12", "23.976 frames a second", fps=Fraction(24000, 1001), frame=0.042),
    timed("M12", "50 frames a second", fps=50),
    timed("M12", "120 frames a second", fps=120),
    timed("M12", "240 frames a second", fps=240),
    timed("M12", "1 frame a second", fps=1, seconds=4, frame=1.0),
    timed("M12", "sound late by half a second in MP4", sound_at=0.5),
    timed("M12", "sound late by half a second in MOV", "v.mov", sound_at=0.5),
    timed("M12", "sound late by half a second in Matroska", "v.mkv", sound_at=0.5),
    timed("M12", "sound late by half a second in MPEG-TS", "v.ts", sound_at=0.5),
    timed("M12", "picture late by half a second in MP4", picture_at=0.5),
    timed("M12", "picture late by half a second in MOV", "v.mov", picture_at=0.5),
    timed("M12", "picture late by half a second in Matroska", "v.mkv", picture_at=0.5),
    timed("M12", "picture late by half a second in MPEG-TS", "v.ts", picture_at=0.5),
    timed("M12", "sound from before zero", sound_at=-0.5, mux={"avoid_negative_ts": "disabled"}),
    timed("M12", "stamps far from zero", "v.mkv", shift=5000.0),
    timed("M12", "MPEG-4 with B-frames in AVI", "v.avi", codec="mpeg4", options={"bf": "2"}, sound="libmp3lame"),
    timed("M12", "H.264 with B-frames in AVI", "v.avi", sound="pcm_s16le"),
    timed("M12", "MPEG-TS", "v.ts"),
    timed("M12", "MPEG-TS whose stamps wrap round", "v.ts", shift=2**33 / 90000 - 1.2),
    timed("M12", "MPEG program stream", "v.mpg", codec="mpeg2video", sound="mp2"),
    timed("M12", "Matroska without cues or length", "v.mkv", mux={"live": "1"}),
    timed("M12", "WebM without length", "v.webm", codec="libvpx", sound="libopus", mux={"live": "1"}),
    timed("M12", "fragmented MP4", mux={"movflags": "frag_keyframe+empty_moov"}),
    timed("M12", "FLV", "v.flv", rate=44100),
    timed("M12", "pre-skip of Opus in WebM", "v.webm", codec="libvpx", sound="libopus"),
    timed("M12", "pre-skip of Opus in MP4", sound="libopus"),
    timed("M12", "priming of AAC in MP4"),
    timed("M12", "priming of AAC in Matroska", "v.mkv"),
    timed("M12", "priming of MP3 in MP4", sound="libmp3lame"),
    timed("M12", "all sound stored before the picture", "v.mkv", order="sound first"),
    timed("M12", "all picture stored before the sound", "v.mkv", order="picture first"),
    timed("M16", "sound at 8 kHz", "v.mov", sound="pcm_s16le", rate=8000),
    timed("M16", "sound at 44.1 kHz", rate=44100),
    timed("M16", "sound at 96 kHz", rate=96000),
    timed("M16", "sound at 192 kHz", "v.mkv", sound="flac", rate=192000),
    timed("M16", "stereo", layout="stereo"),
    timed("M16", "stereo with one silent channel", layout="stereo", gains=(0, 1)),
    timed("M16", "5.1", layout="5.1"),
    timed("M16", "7.1", layout="7.1"),
    timed("M16", "5.1 with sound in front alone", layout="5.1", gains=(0, 0, 1, 0, 0, 0)),
    timed("M16", "5.1 with sound behind alone", layout="5.1", gains=(0, 0, 0, 0, 1, 1)),
    timed("M16", "AC-3", "v.mkv", sound="ac3", layout="5.1"),
    timed("M16", "Vorbis", "v.mkv", sound="vorbis", layout="stereo"),
    timed("M16", "sound that is clipped", gains=(8.0,)),
    timed("M15", "HEVC in MP4", **X265),
    timed("M15", "HEVC of 10 bits", pixels="yuv420p10le", **X265),
    timed("M14", "AV1 in MP4", codec="libsvtav1", options={"preset": "12", "svtav1-params": "logical-processors=1"}),
    timed("M14", "VP9 in WebM", "v.webm", codec="libvpx-vp9", options={"cpu-used": "8"}, sound="libopus"),
    timed("M14", "MJPEG in AVI", "v.avi", codec="mjpeg", pixels="yuvj420p", sound="pcm_s16le"),
    timed("M14", "ProRes in MOV", "v.mov", codec="prores", pixels="yuv422p10le", sound="pcm_s16le"),
    timed("M14", "GIF", "v.gif", codec="gif", pixels="rgb8", sound=None),
    timed(
        "M14",
        "interlaced MPEG-2",
        "v.mpg",
        codec="mpeg2video",
        options={"flags": "+ildct+ilme", "top": "1"},
        sound="mp2",
    ),
    timed("M14", "interlaced H.264", options={"x264-params": "tff=1"}),
    timed("M12", "an edit list that cuts half a second off both"),
    timed("M12", "an edit list that cuts half a second off the sound", samples=np.roll(tone(0, 3.2, 48000), 24000, 0)),
)
def test_clock(case, tmp_path):
    """A lamp goes on and a tone sounds one second from the beginning of the file's clock."""
    name, frame, how = case.given
    path = record(tmp_path / name, **how)
    start, seconds = how.get("picture_at", 0.0), how.get("seconds", 2.4)
    if "edit list" in case.title:
        both = "both" in case.title
        cut_by_edit_list(path, 0.5, "both" if both else "sound")
        start = 0.5 if both else 0.0
    if "wrap" in case.title:
        with av.open(str(path)) as container:
            stamps = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
        assert any(min(stamps) < end < max(stamps) for end in (0, 2**33))  # libav counts on, or from below zero
    frames, sound, video = read(path)
    slack = max(frame, 0.04) + 1e-3
    assert abs(len(frames) / 25 - (seconds - start)) <= slack
    assert abs(lamp_time(frames) - (1.0 - start)) <= slack
    if how.get("sound", "aac"):
        assert len(sound) == len(frames) * 640
        assert abs(tone_time(sound) - (1.0 - start)) <= 0.04
        assert abs(tone_time(sound) - lamp_time(frames)) <= slack
    said = [note for note in video.notes if not note.startswith("interlaced")]
    assert not said
    assert ("interlaced" in case.title) == bool(video.notes)
    assert probe(path).width == 64


def with_streams(path, layouts: list[tuple[str, float, int]], *, default: int = 0):
    """A file of several streams of sound: layout, seconds at which the tone begins, rate."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = [container.add_stream("pcm_s16le", rate=rate, layout=layout) for layout, _, rate in layouts]
        for index, stream in enumerate(streams):
            stream.disposition = Disposition.default if index == default else Disposition(0)
            stream.metadata["language"] = ("deu", "eng", "fra")[index]
        for i in range(60):
            image = av.VideoFrame.from_ndarray(lamp(i / 25), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        for stream, (layout, at, rate) in zip(streams, layouts):
            samples = np.roll(
                tone(0, 2.4, rate, [1.0] * stream.codec_context.layout.nb_channels), round((at - 1) * rate), 0
            )
            piece = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
            piece.sample_rate, piece.pts, piece.time_base = rate, 0, Fraction(1, rate)
            container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
    return path


@held_by(
    Case(
        "M16", "several streams of sound of which the second is the default", "it is taken and the note says which", 1
    ),
    Case("M16", "several streams of sound of which the first is the default", "it is taken and the note says which", 0),
)
def test_one_of_several_streams_of_sound(case, tmp_path):
    """The default one, whose tone begins at another moment than that of the other."""
    path = with_streams(tmp_path / "v.mkv", [("mono", 1.4, 16000), ("stereo", 1.0, 48000)], default=case.given)
    _, sound, video = read(path)
    assert abs(tone_time(sound) - (1.4, 1.0)[case.given]) < 0.02
    language = ("deu", "eng")[case.given]
    assert video.notes == [f"sound: 2 streams, number {case.given + 1} (pcm_s16le, {language}) is taken"]


SILENT = "no sound is given, and the note says that all of it is silent"


@held_by(
    Case(
        "M16",
        "stereo whose second channel is the first one inverted",
        "one channel is taken, and the note says so",
        (1, -1),
    ),
    Case("M16", "stereo inverted, the second channel louder", "the mix is kept: it holds the sound", (0.3, -1)),
    Case("M16", "digital silence", SILENT, (0, 0)),
)
def test_channels_that_cancel_and_silence(case, tmp_path):
    for name, codec in (("v.mkv", "flac"), ("v.mp4", "aac"), ("w.mkv", "libmp3lame")):
        path = record(tmp_path / name, layout="stereo", gains=case.given, sound=codec)
        _, sound, video = read(path)
        if case.expected == SILENT:
            assert sound is None and video.notes == ["no audio: the sound is silent throughout"]
            continue
        assert abs(tone_time(sound) - 1.0) < 0.02 and np.abs(sound.astype(int)).max() > 3000
        assert bool(video.notes) == ("note" in case.expected)
        assert all("cancel each other" in note for note in video.notes)


@held_by(
    Case("M16", "a constant offset of the sound (DC)", "kept as it is", None),
    Case("M16", "nine channels of no known layout", "mixed to one, every channel alike", "9 channels"),
    Case("M16", "three channels of no known layout", "mixed to one, every channel alike", "3 channels"),
)
def test_odd_sound(case, tmp_path):
    path = tmp_path / "v.mkv"
    if case.given is None:
        _, sound, _ = read(record(path, sound="pcm_s16le", rate=16000, samples=tone(0, 2.4, 16000) // 2 + 5000))
        assert abs(int(np.median(sound)) - 5000) <= 2 and abs(tone_time(sound - 5000) - 1.0) < 0.002
        return
    _, sound, video = read(with_streams(path, [(case.given, 1.0, 48000)]))
    assert video.notes == [] and abs(tone_time(sound) - 1.0) < 0.02
    assert 9000 < np.abs(sound.astype(int)).max() < 13000


@held_by(
    Case("M7", "no sound", "frames are given, audio() is None, and there is nothing to note", {"sound": None}),
    Case(
        "M7",
        "a stream of sound without a packet",
        "audio() is None and a note says why",
        {"samples": np.zeros((0, 1), np.int16)},
    ),
)
def test_without_sound(case, tmp_path):
    path = record(tmp_path / "v.mkv", **case.given)
    frames, sound, video = read(path)
    assert len(frames) == 60 and sound is None
    assert [note.split(":")[0] for note in video.notes] == (["no audio"] if "note says" in case.expected else [])


@held_by(
    Case("M11", "one frame", "one frame and its sound", 1),
    Case("M11", "two frames", "two frames and their sound", 2),
)
def test_few_frames(case, tmp_path):
    path = record(tmp_path / "v.mp4", times=[i / 25 for i in range(case.given)], seconds=1.2)
    frames, sound, _ = read(path)
    assert len(frames) == case.given and (sound is None or len(sound) == 640 * case.given)


# The matrix that turns R'G'B' into Y'CbCr follows from two weights (ITU-R BT.601, BT.709, BT.2020).
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
TAGS = {"bt601": 6, "bt709": 1, "bt2020": 9}
PATCHES = np.array(
    [
        [200, 30, 40],
        [30, 180, 60],
        [40, 60, 200],
        [224, 172, 140],
        [90, 60, 45],
        [128, 128, 128],
        [16, 16, 16],
        [240, 240, 240],
    ]
)


def planes_of(rgb: np.ndarray, matrix: str, full: bool, bits: int) -> np.ndarray:
    """(N, 3) integer Y'CbCr of (N, 3) R'G'B' in [0, 1]."""
    red, blue = WEIGHTS[matrix]
    luma = rgb @ [red, 1 - red - blue, blue]
    chroma = np.stack([(rgb[:, 2] - luma) / (2 - 2 * blue), (rgb[:, 0] - luma) / (2 - 2 * red)], 1)
    scale = 2 ** (bits - 8)
    if full:
        values = np.concatenate([luma[:, None] * (2**bits - 1), chroma * (2**bits - 1) + 128 * scale], 1)
    else:
        values = np.concatenate([luma[:, None] * 219 * scale + 16 * scale, chroma * 224 * scale + 128 * scale], 1)
    return np.clip(np.round(values), 0, 2**bits - 1).astype(np.uint16)


def patches_frame(values: np.ndarray, pixels: str) -> av.VideoFrame:
    """A frame of upright stripes, 32 pixels each, whose planes hold `values` (N, 3 or 4 with alpha)."""
    frame = av.VideoFrame(32 * len(values), 64, pixels)
    for index, plane in enumerate(frame.planes):
        deep = frame.format.components[index].bits > 8
        row = np.repeat(values[:, index], plane.width // len(values)).astype(np.uint16 if deep else np.uint8)
        padded = np.zeros((plane.height, plane.line_size // row.itemsize), row.dtype)
        padded[:, : plane.width] = row
        plane.update(padded)
    return frame


def record_patches(path, codec, pixels, values, *, matrix="bt601", full=False, transfer=2, primaries=2, options=None):
    needs_encoder(codec)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options=options or {})
        video.width, video.height, video.pix_fmt = 32 * len(values), 64, pixels
        context = video.codec_context
        context.colorspace, context.color_range = TAGS[matrix], 2 if full else 1
        context.color_trc, context.color_primaries = transfer, primaries
        for i in range(5):
            frame = patches_frame(values, pixels)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            frame.colorspace, frame.color_range = TAGS[matrix], 2 if full else 1
            frame.color_trc, frame.color_primaries = transfer, primaries
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def patches_read(path) -> tuple[np.ndarray, list[str]]:
    """Mean (N, 3) of the middle of each stripe, and the notes."""
    frames, _, video = read(path)
    stripes = frames[2].reshape(64, -1, 32, 3)[16:48, :, 8:24]
    return stripes.mean((0, 2)), video.notes


LEVELS = "colours within 3 of 255 levels of the formula"
X264 = {"qp": "4"}
X265_FINE = {"x265-params": "log-level=none:qp=4"}


def coloured(number: str, title: str, name: str, codec: str, pixels: str, **how) -> Case:
    return Case(number, title, LEVELS, (name, codec, pixels, how))


@held_by(
    coloured("M14", "4:2:0, BT.601, limited range", "v.mp4", "libx264", "yuv420p", options=X264),
    coloured("M14", "4:2:0, BT.709, limited range", "v.mp4", "libx264", "yuv420p", matrix="bt709", options=X264),
    coloured("M14", "4:2:0, BT.601, full range", "v.mp4", "libx264", "yuv420p", full=True, options=X264),
    coloured(
        "M14", "4:2:0, BT.709, full range", "v.mkv", "libx264", "yuv420p", matrix="bt709", full=True, options=X264
    ),
    coloured("M14", "4:2:2", "v.mp4", "libx264", "yuv422p", matrix="bt709", options=X264),
    coloured("M14", "4:4:4", "v.mp4", "libx264", "yuv444p", matrix="bt709", options=X264),
    coloured("M14", "4:4:4 in FFV1", "v.mkv", "ffv1", "yuv444p"),
    coloured("M14", "alpha in FFV1", "v.mkv", "ffv1", "yuva420p"),
    coloured(
        "M14", "alpha in ProRes 4444", "v.mov", "prores_ks", "yuva444p10le", matrix="bt709", options={"profile": "4444"}
    ),
    coloured("M14", "MJPEG of full range", "v.avi", "mjpeg", "yuvj420p", full=True, options={"qmin": "1", "qmax": "1"}),
    coloured("M14", "ProRes 4:2:2", "v.mov", "prores", "yuv422p10le", matrix="bt709"),
    coloured(
        "M14", "VP9", "v.webm", "libvpx-vp9", "yuv420p", matrix="bt709", options={"crf": "4", "b": "0", "cpu-used": "8"}
    ),
    coloured("M14", "AV1", "v.mp4", "libsvtav1", "yuv420p", matrix="bt709", options={"crf": "4", "preset": "12"}),
    coloured("M15", "10 bits in H.264", "v.mp4", "libx264", "yuv420p10le", matrix="bt709", options=X264),
    coloured("M15", "10 bits in HEVC", "v.mp4", "libx265", "yuv420p10le", matrix="bt709", options=X265_FINE),
    coloured("M15", "12 bits 4:4:4 in HEVC", "v.mkv", "libx265", "yuv444p12le", matrix="bt709", options=X265_FINE),
    coloured(
        "M15", "10 bits of BT.2020 without HDR", "v.mp4", "libx265", "yuv420p10le", matrix="bt2020", options=X265_FINE
    ),
)
def test_colours(case, tmp_path):
    """Planes are written by the formulas of the standards; what is read is compared with what went in."""
    name, codec, pixels, how = case.given
    bits = av.VideoFrame(16, 16, pixels).format.components[0].bits
    values = planes_of(PATCHES / 255, how.get("matrix", "bt601"), how.get("full", False), bits)
    if "a4" in pixels:
        values = np.concatenate([values, np.full((len(values), 1), 2**bits // 2)], 1)  # half transparent
    got, notes = patches_read(record_patches(tmp_path / name, codec, pixels, values, **how))
    assert notes == []
    assert np.abs(got - PATCHES).max() <= 3


def hdr_of(rgb: np.ndarray, transfer: str) -> np.ndarray:
    """PQ or HLG code values (N, 3) in [0, 1] of a BT.709 picture whose white stands at 203 cd/m2 (ITU-R BT.2408)."""
    light = 203 * (rgb / 255) ** 2.4 @ np.linalg.inv(TO_BT709).T
    if transfer == "PQ":
        power = (light / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    bright = light @ [0.2627, 0.6780, 0.0593]
    scene = light / 1000 * (bright[:, None] / 1000) ** (1 / 1.2 - 1)  # inverse of the OOTF at 1000 cd/m2
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)  # ITU-R BT.2087
HDR = "a picture of standard range comes back within 3 levels; brighter light is compressed, not cut; the note says so"


@held_by(
    Case("M15", "HDR in PQ, HEVC", HDR, ("PQ", 16, "libx265", X265_FINE)),
    Case("M15", "HDR in HLG, HEVC", HDR, ("HLG", 18, "libx265", X265_FINE)),
    Case("M15", "HDR in PQ, H.264", HDR, ("PQ", 16, "libx264", X264)),
)
def test_high_dynamic_range(case, tmp_path):
    transfer, tag, codec, options = case.given
    skin = np.array([[150, 110, 90], [90, 60, 45], [60, 60, 60], [120, 120, 120], [170, 130, 110], [40, 70, 60]])
    values = planes_of(hdr_of(skin, transfer), "bt2020", False, 10)
    how = {"matrix": "bt2020", "transfer": tag, "primaries": 9, "options": options}
    got, notes = patches_read(record_patches(tmp_path / "v.mp4", codec, "yuv420p10le", values, **how))
    assert np.abs(got - skin).max() <= 3
    assert notes == [f"hdr: {transfer} tone-mapped to standard dynamic range (ITU-R BT.2390)"]
    light = np.array([255, 285, 315, 345])[:, None] * np.ones(3)  # 203, 265, 337 and 420 cd/m2
    values = planes_of(hdr_of(light, transfer), "bt2020", False, 10)
    got, _ = patches_read(record_patches(tmp_path / "w.mp4", codec, "yuv420p10le", values, **how))
    assert np.all(np.diff(got[:, 1]) >= 2) and 215 < got[0, 1] < 240 and got[-1, 1] <= 255
    assert np.ptp(got, axis=1).max() <= 3  # grey stays grey


def refusal(path, **options) -> MediaError:
    """The error that reading ends with; its text holds the file, and what to do behind a semicolon."""
    with pytest.raises(MediaError) as caught:
        read(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path)) and re.search(r"; \w+|expected one of", text), text
    return caught.value


def remuxed(path, target, **options):
    """The same packets in another container, such as an MP4 whose index stands in front."""
    with av.open(str(path)) as source, av.open(str(target), "w", options=options) as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return target


def noise(time: float) -> np.ndarray:
    return np.random.default_rng(round(time * 1000)).integers(0, 255, (48, 64, 3), np.uint8)


ZIP = b"PK\x03\x04" + bytes(3000)
JPEG = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()


@held_by(
    Case("M1", "zero bytes", "refused as `empty`, before a decoder starts", (b"", "empty")),
    Case("M4", "text called .mp4", "refused as `not_media`", (b"this is no video\n" * 400, "not_media")),
    Case("M4", "JPEG called .mp4", "refused as `not_media`", (JPEG, "not_media")),
    Case("M4", "zip archive called .mp4", "refused as `not_media`", (ZIP, "not_media")),
    Case(
        "M4", "random bytes called .mp4", "refused as `not_media`", (np.random.default_rng(1).bytes(30000), "not_media")
    ),
    Case(
        "M6",
        "concat script",
        "refused, and no other file is opened",
        ("ffconcat version 1.0\nfile '{}'\n", "not_media"),
    ),
    Case(
        "M6",
        "HLS playlist",
        "refused, and no other file is opened",
        ("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{}\n", "not_media"),
    ),
    Case(
        "M6",
        "SDP",
        "refused, and no other file is opened",
        ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n", "not_media"),
    ),
    Case(
        "M6",
        "DASH manifest",
        "refused, and no other file is opened",
        ('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>', "not_media"),
    ),
)
def test_no_video_at_all(case, tmp_path, monkeypatch):
    content, word = case.given
    secret = record(tmp_path / "secret.mp4", sound=None)
    path = tmp_path / "v.mp4"
    path.write_bytes(content if isinstance(content, bytes) else content.format(secret).encode())
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda name, *given, **more: opened.append(str(name)) or real(name, *given, **more))
    monkeypatch.setattr("visavox.media.video.Video._decode", lambda self: pytest.fail("a decoder was started"))
    assert refusal(path).reason == word
    assert str(secret) not in opened


@held_by(
    Case("M6", "MOV whose samples lie in another file (dref)", "nothing of the other file is read", b"alis"),
)
def test_references(case, tmp_path):
    whole = record(tmp_path / "v.mov", sound=None).read_bytes()
    at = whole.index(b"dref") + 12
    (tmp_path / "refers.mov").write_bytes(whole[: at + 4] + case.given + bytes(4) + whole[at + 12 :])
    with open_video(tmp_path / "refers.mov") as video:
        links = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        assert str(tmp_path / "v.mov") not in links
        list(video.frames())


@held_by(
    Case("M2", "index at the end, cut off", "refused as `truncated`; the text names the moov box", 0.5),
    Case(
        "M2",
        "index at the end, itself cut in the middle",
        "refused as `truncated`; the text names the moov box",
        "moov",
    ),
    Case("M3", "index in front, cut at 70 %", "what is there is given; the note holds seconds and share", 0.7),
    Case("M3", "index in front, cut at 30 %", "refused as `truncated`: less than half is there", 0.3),
)
def test_cut_files(case, tmp_path):
    path = record(tmp_path / "v.mp4", picture=noise, options={"g": "10"}, sound=None)
    if case.number == "M3":
        path = remuxed(path, tmp_path / "fast.mp4", movflags="faststart")
    whole = path.read_bytes()
    end = int(len(whole) * case.given) if case.given != "moov" else (whole.index(b"moov") + len(whole)) // 2
    path.write_bytes(whole[:end])
    if case.given == 0.7:
        frames, _, video = read(path)
        assert 30 < len(frames) < 60
        assert re.fullmatch(r"truncated: decoded 1\.\d s of 2\.4 s \(\d\d%\)", video.notes[0])
        return
    error = refusal(path)
    assert error.reason == "truncated" and ("moov" in str(error)) == (case.number == "M2")


@held_by(
    *[
        Case(
            "M5",
            f"bit rot, {kind}, {share} of the bytes",
            "what is left is given, or the error says what happened",
            (name, share),
        )
        for kind, name in (("MP4", "v.mp4"), ("Matroska", "v.mkv"), ("MPEG-TS", "v.ts"), ("AVI", "v.avi"))
        for share in (1e-4, 1e-3, 1e-2)
    ]
)
def test_bit_rot(case, tmp_path, capfd):
    """Twelve seeded copies each; nothing but frames or a MediaError may come."""
    name, share = case.given
    codec = "mpeg4" if name == "v.avi" else "libx264"
    whole = record(
        tmp_path / name, picture=noise, codec=codec, seconds=1.0, sound="mp2" if name == "v.avi" else "aac"
    ).read_bytes()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        data = np.frombuffer(whole, np.uint8).copy()
        hit = rng.choice(len(data), max(1, int(share * len(data))), replace=False)
        data[hit] ^= (1 << rng.integers(0, 8, len(hit))).astype(np.uint8)
        (tmp_path / name).write_bytes(data.tobytes())
        try:
            frames, sound, _ = read(tmp_path / name, max_seconds=2)
        except MediaError as error:
            assert str(tmp_path / name) in str(error)
            continue
        assert 1 <= len(frames) <= 50 and (sound is None or len(sound) == 640 * len(frames))
    assert capfd.readouterr() == ("", "")


@held_by(
    Case(
        "M5",
        "200 seeded mutations of five real clips",
        "each ends as read or with an error, none crashes or hangs",
        200,
        (pytest.mark.durability, pytest.mark.data),
    ),
)
def test_mutations_of_real_clips(case, tmp_path, clips):
    sources = sorted(clips.glob("*/*.mp4"))[::6][:5]
    tasks = [(str(sources[number % 5]), number, str(tmp_path / f"{number}.mp4")) for number in range(case.given)]
    results = dict(pool.run(tasks, nothing, read_mutated, workers=2, timeout=120))
    assert len(results) == case.given
    died = {task: result for task, result in results.items() if isinstance(result, pool.Died)}
    assert not died
    assert {result == "read" for result in results.values()} == {True, False}


def cover_and_sound(path):
    """A song with its cover: a stream of sound and a picture."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 64, 48, "yuvj420p", Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(lamp(0), format="rgb24")
        image.pts = 0
        container.mux(cover.encode(image))
        container.mux(cover.encode(None))
        piece = av.AudioFrame.from_ndarray(tone(0, 2, 16000).reshape(1, -1), format="s16", layout="mono")
        piece.sample_rate, piece.pts = 16000, 0
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return path


def sound_alone(path):
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        piece = av.AudioFrame.from_ndarray(tone(0, 2, 16000).reshape(1, -1), format="s16", layout="mono")
        piece.sample_rate, piece.pts = 16000, 0
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return path


@held_by(
    Case("M8", "sound alone", "refused as `no_video`", ("v.m4a", sound_alone)),
    Case("M8", "sound alone in a file called .mp4", "refused as `no_video`", ("v.mp4", sound_alone)),
    Case("M8", "a song with its cover", "refused as `no_video`: a cover is no video", ("v.mp3", cover_and_sound)),
)
def test_no_picture(case, tmp_path):
    name, make = case.given
    error = refusal(make(tmp_path / name))
    assert error.reason == "no_video" and "audio" in str(error)


@held_by(Case("M8", "a video with a cover, which is a second video stream", "the video is read", True))
def test_cover_beside_a_video(case, tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 640, 480, "yuvj420p", Disposition.attached_pic
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        image = av.VideoFrame.from_ndarray(np.full((480, 640, 3), 200, np.uint8), format="rgb24")
        image.pts = 0
        container.mux(cover.encode(image))
        container.mux(cover.encode(None))
        for i in range(50):
            image = av.VideoFrame.from_ndarray(lamp(i / 25), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    frames, _, _ = read(path)
    assert len(frames) == 50 and frames[0].shape == (48, 64, 3) and abs(lamp_time(frames) - 1.0) < 0.001


def corners(time: float) -> np.ndarray:
    """Four corners of different grey, so that every turn and every mirror is told apart."""
    image = np.zeros((48, 96, 3), np.uint8)
    image[:16, :24], image[:16, -24:], image[-16:, :24], image[-16:, -24:] = 60, 120, 180, 240
    return image


@held_by(
    *[
        Case("M13", f"turned by {turn} degrees" + ", mirrored" * flip, "frames are given upright", (turn, flip))
        for turn in (0, 90, 180, 270)
        for flip in (False, True)
    ]
)
def test_turned_pictures(case, tmp_path):
    """Corners stand where the display matrix puts them (ISO 14496-12: (x, y) is shown at (a x + c y, b x + d y))."""
    turn, flip = case.given
    path = record(
        tmp_path / "v.mp4",
        picture=corners,
        seconds=0.2,
        sound=None,
        prepare=lambda v: v.set_display_rotation(turn, hflip=flip),
    )
    frames, _, video = read(path)
    expected = np.rot90(corners(0), turn // 90)[:, :: -1 if flip else 1]  # counter-clockwise, mirrored last
    assert frames[0].shape == expected.shape == (video.info.height, video.info.width, 3)
    assert np.abs(frames[0].astype(int) - expected).mean() < 6


@held_by(
    Case("M14", "odd width and height, 4:4:4", "every pixel is kept", ("v.mkv", "ffv1", "yuv444p", (127, 95))),
    Case("M14", "odd width and height, 4:2:0", "every pixel is kept", ("v.mkv", "ffv1", "yuv420p", (127, 95))),
    Case("M14", "odd width and height in VP9", "every pixel is kept", ("v.webm", "libvpx-vp9", "yuv420p", (127, 95))),
    Case("M14", "as small as is allowed", "every pixel is kept", ("v.mp4", "libx264", "yuv420p", (32, 32))),
)
def test_sizes(case, tmp_path):
    name, codec, pixels, (width, height) = case.given

    def ramp(time: float) -> np.ndarray:
        down, across = np.mgrid[:height, :width]
        return np.stack([across + 60, down + 60, (across + down) // 2 + 40], -1).astype(np.uint8)

    options = {"crf": "4", "b": "0", "cpu-used": "8"} if "vp9" in codec else {"qp": "2"} if codec == "libx264" else {}
    frames, _, video = read(
        record(tmp_path / name, picture=ramp, codec=codec, pixels=pixels, options=options, sound=None, seconds=0.4)
    )
    assert frames[0].shape == (height, width, 3) and (video.info.width, video.info.height) == (width, height)
    assert np.abs(frames[3].astype(int) - ramp(0)).max() <= 6


def ball(width: int, height: int) -> np.ndarray:
    """A bright disc in the middle, as large as fits nearly."""
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2 + 0.5) ** 2 + (y - height / 2 + 0.5) ** 2 < (0.4 * min(width, height)) ** 2
    return np.where(inside[..., None], np.uint8([220, 180, 150]), np.uint8([60, 70, 80]))


ROUND = "pixels are made square: a round face is round; the note says from which size to which"


@held_by(
    Case("M14", "PAL 4:3 stored 720x576", ROUND, ("v.mp4", "libx264", (720, 576), Fraction(16, 15), (768, 576))),
    Case(
        "M14",
        "PAL 16:9 stored 720x576, MPEG-2",
        ROUND,
        ("v.mpg", "mpeg2video", (720, 576), Fraction(64, 45), (1024, 576)),
    ),
    Case("M14", "NTSC 4:3 stored 720x480", ROUND, ("v.mkv", "libx264", (720, 480), Fraction(8, 9), (720, 540))),
    Case("M14", "HDV stored 1440x1080", ROUND, ("v.ts", "libx264", (1440, 1080), Fraction(4, 3), (1920, 1080))),
)
def test_pixels_that_are_not_square(case, tmp_path):
    name, codec, (width, height), shape, shown = case.given
    stored = cv2.resize(ball(*shown), (width, height), interpolation=cv2.INTER_AREA)

    def prepare(video):
        video.codec_context.sample_aspect_ratio = shape

    options = {"preset": "ultrafast"} if codec == "libx264" else {}
    path = record(
        tmp_path / name,
        picture=lambda time: stored,
        codec=codec,
        prepare=prepare,
        options=options,
        sound=None,
        seconds=0.2,
    )
    frames, _, video = read(path)
    bright = frames[2][..., 0] > 140
    assert abs(frames[0].shape[1] - shown[0]) <= 1 and abs(frames[0].shape[0] - shown[1]) <= 1
    assert abs(int(bright.any(0).sum()) - int(bright.any(1).sum())) <= 2
    assert f"{width}x{height} scaled to {frames[0].shape[1]}x{frames[0].shape[0]}" in " ".join(video.notes)


def monster(path):
    """One flat grey frame of 128 million pixels in a few kilobytes."""
    lean = "keyint=1:rc-lookahead=0:sync-lookahead=0:threads=1:ref=1:bframes=0"
    frame = av.VideoFrame(16384, 8192, "yuv420p")
    for plane in frame.planes:
        plane.update(np.full(plane.buffer_size, 128, np.uint8))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "x264-params": lean})
        video.width, video.height, video.pix_fmt = 16384, 8192, "yuv420p"
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def declare(path, width: int, height: int):
    """Let the sample description name another size than the stream has."""
    data = bytearray(path.read_bytes())
    struct.pack_into(">HH", data, data.index(b"avc1", data.index(b"stsd")) + 28, width, height)
    path.write_bytes(data)
    return path


def small_in_the_header(path):
    return declare(monster(path), 64, 48)


def large_in_the_header(path):
    return declare(record(path, sound=None), 65535, 65535)


def lying_length(path):
    """Every header says 0xFFFFFFFE ticks."""
    data = bytearray(record(path, sound=None).read_bytes())
    track = (b"moov", b"trak")
    for kinds, offset in (((b"moov", b"mvhd"), 16), ((*track, b"tkhd"), 20), ((*track, b"mdia", b"mdhd"), 16)):
        for start, _ in descend(data, *kinds):
            struct.pack_into(">I", data, start + offset, 0xFFFFFFFE)
    path.write_bytes(data)
    return path


def many_tracks(path):
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(119)]
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        image = av.VideoFrame.from_ndarray(lamp(0), format="rgb24")
        image.pts, image.time_base = 0, Fraction(1, 25)
        container.mux(video.encode(image))
        container.mux(video.encode(None))
        for stream in streams:
            piece = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), format="s16", layout="mono")
            piece.sample_rate, piece.pts = 8000, 0
            container.mux(stream.encode(piece))
    return path


def million_fps(path, codec="libx264", pixels="yuv420p", rate=10**6):
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = 64, 48, pixels
        video.codec_context.time_base = Fraction(1, rate)
        for i in range(2000):
            image = av.VideoFrame.from_ndarray(lamp(i / 1000), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, rate)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    return path


def thousand_fps(path):
    return million_fps(path, "mpeg4", rate=1000)


def huge_extradata(path):
    """The decoder's configuration says that it is two gigabytes long."""
    data = bytearray(record(path, sound=None).read_bytes())
    struct.pack_into(">I", data, data.index(b"avcC") - 4, 0x7FFFFF00)
    path.write_bytes(data)
    return path


def nested(path):
    """A movie box within a movie box, fifty thousand deep."""
    depth = 50_000
    body = b"".join(struct.pack(">I4s", 8 * (depth - i), b"moov") for i in range(depth))
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + body)
    return path


def tiny_packets(path):
    """A hundred thousand packets of one sample each before the picture."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        container.start_encoding()
        for i in range(100_000):
            packet = av.Packet(b"\0\1")
            packet.stream, packet.pts, packet.dts, packet.time_base = sound, i, i, Fraction(1, 16000)
            container.mux(packet)
        for i in range(50):
            image = av.VideoFrame.from_ndarray(lamp(i / 25), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    return path


def bomb(title: str, name: str, make, outcome: str, seconds: float = 1) -> Case:
    end = "read" if outcome == "read" else f"refused as `{outcome}`"
    return Case("M18", title, f"{end}, within {seconds} s and 150 MB", (name, make, outcome, seconds))


@held_by(
    bomb("16384 x 8192 pixels in a few kilobytes", "v.mp4", monster, "too_large"),
    bomb("64 x 48 in the header, 16384 x 8192 in the stream", "v.mp4", small_in_the_header, "too_large"),
    bomb("65535 x 65535 in the header, 64 x 48 in the stream", "v.mp4", large_in_the_header, "read"),
    bomb("0xFFFFFFFE as length", "v.mp4", lying_length, "read"),
    bomb("120 tracks", "v.mkv", many_tracks, "too_many_streams"),
    bomb("a million frames a second in MP4", "v.mp4", million_fps, "too_fast"),
    bomb("a thousand frames a second in AVI", "v.avi", thousand_fps, "too_fast"),
    bomb("extra data of two gigabytes, declared", "v.mp4", huge_extradata, "read"),
    bomb("boxes nested fifty thousand deep", "v.mp4", nested, "not_media"),
    bomb("a hundred thousand tiny packets", "v.mkv", tiny_packets, "read", 10),
)
def test_bombs(case, tmp_path):
    name, make, outcome, seconds = case.given
    (found,) = measured(make(tmp_path / name))
    assert found.outcome == outcome
    assert found.seconds < seconds and found.grown < 150


def long_sound(path, hours: float):
    """Sound of `hours` stored before two seconds of picture; the tone begins with the lamp."""
    rate = 16000
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("flac", rate=rate, layout="mono")
        first = tone(0, 60, rate)[:, 0]
        silent = np.zeros(60 * rate, np.int16)
        for minute in range(round(hours * 60)):
            piece = av.AudioFrame.from_ndarray((silent if minute else first)[None], format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = rate, minute * 60 * rate, Fraction(1, rate)
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
        for i in range(50):
            image = av.VideoFrame.from_ndarray(lamp(i / 25), format="rgb24")
            image.pts, image.time_base = i, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
    return path


def two_hours(path):
    """A picture every four seconds for two hours, and sound."""
    samples = np.zeros((7200 * 8000, 1), np.int16)
    samples[: 3 * 8000] = tone(0, 3, 8000)
    times = [*np.arange(0, 4, 0.2), *range(4, 7200, 4)]
    return record(path, times=times, samples=samples, rate=8000, sound="flac", options={"preset": "ultrafast"})


def four_k(path):
    still = np.full((2160, 3840, 3), 90, np.uint8)
    return record(path, picture=lambda time: still, seconds=0.6, options={"preset": "ultrafast"}, sound=None)


def an_hour_of_sound(path):
    return long_sound(path, 1)


def a_day_of_sound(path):
    return long_sound(path, 24)


FLAT = "memory does not grow with the length"
DURABILITY = (pytest.mark.durability,)
CLIP = {"max_seconds": 16}


@held_by(
    Case("M17", "an hour of sound stored before the picture", FLAT, (an_hour_of_sound, CLIP, 50, 40)),
    Case("M17", "24 hours of sound stored before the picture", FLAT, (a_day_of_sound, CLIP, 50, 60), DURABILITY),
    Case("M17", "two hours, of which 16 s are wanted", FLAT, (two_hours, CLIP, 400, 40)),
    Case("M17", "two hours, all wanted", "memory grows by the sound alone", (two_hours, {}, 180_000, 700), DURABILITY),
    Case("M17", "3840 x 2160 pixels", "read, within 400 MB", (four_k, {}, 15, 400)),
)
def test_long_and_large(case, tmp_path):
    make, options, frames, megabytes = case.given
    (found,) = measured(make(tmp_path / "v.mkv"), **options)
    assert found.outcome == "read" and abs(found.frames - frames) <= 100
    assert found.grown < megabytes and found.peak < 1200
    if make is not four_k:
        assert abs(found.loud - 1.0) < 0.02
    assert not [note for note in found.notes if note != "clipped"]


@held_by(
    Case(
        "M19", "a decoder that crashes (SIGSEGV)", "that file fails, the others are read", (signal.SIGSEGV, "sigsegv")
    ),
    Case(
        "M19",
        "a decoder that hangs (SIGSTOP)",
        "that file is given up in time, the others are read",
        (signal.SIGSTOP, ""),
    ),
)
def test_decoder_that_dies(case, tmp_path):
    hit, words = case.given
    path = record(tmp_path / "v.mp4", sound=None)
    tasks = [(str(path), 0), (str(path), int(hit)), (str(path), 0)]
    results = dict(zip(range(3), [None] * 3))
    for task, result in pool.run(list(enumerate(tasks)), nothing, read_numbered, workers=1, timeout=8):
        results[task[0]] = result
    assert results[0] == results[2] == 60
    assert isinstance(results[1], pool.Died) and words in results[1].reason.lower()


def test_writing_av1_leaves_no_real_time_thread_behind(tmp_path):
    with ordinary_priority():
        record(tmp_path / "v.mp4", codec="libsvtav1", options={"preset": "12", "svtav1-params": "logical-processors=1"})
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
