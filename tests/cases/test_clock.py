"""Picture and sound on one clock: rates, offsets, containers, channels. Files are written here and read as users' are."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition

from tests.cases.cases import Case, held_by
from tests.cases.media_files import cut_by_edit_list, lamp, lamp_time, read, record, tone, tone_time
from visavox.media import probe

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


def test_writing_av1_leaves_no_real_time_thread_behind(tmp_path):
    record(tmp_path / "v.mp4", codec="libsvtav1", options={"preset": "12", "svtav1-params": "logical-processors=1"})
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
