"""The videos that benchmarks run on: real ones from the folder VISAVOX_TEST_DATA names, else synthetic ones."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from visavox import media
from visavox.config import SYNC_FPS

CLIP = "clips/real/fsgan_shinzo_abe.mp4"  # 720p, 20 s
EQUALITY_CLIPS = (
    "clips/real/hdtf_WDA_BobMenendez_000.mp4",
    "clips/real/may.mp4",
    "clips/real/pcavs_00104.mp4",
    "clips/fake/anit_Einstein.mp4",
    "clips/fake/sad_art_0.mp4",
)  # of 25 frames per second: of others MoviePy takes the frame before a moment, we the nearest
LOOP = 10.0  # seconds from one end to the other; twice as many are encoded, longer clips repeat them


def data_folder() -> Path | None:
    """The folder with clips/ and weights/, where there is one."""
    named = os.environ.get("VISAVOX_TEST_DATA")
    return Path(named) if named else None


def talking_clip(folder: Path, data: Path | None, height: int, seconds: float) -> Path:
    """A talking face in 16:9 of this height at 25 fps, written once: the real clip or a synthetic one, to and fro.

    Without a jump anywhere, so that the face is followed through the whole of it.
    """
    path = folder / f"{height}p_{seconds:.3g}s.mp4"
    if path.exists():
        return path
    if seconds > 2 * LOOP:
        return _looped(talking_clip(folder, data, height, 2 * LOOP), path, seconds)
    frames, sound = _source(data, min(seconds, LOOP))
    width, count = round(height * 16 / 18) * 2, round(seconds * SYNC_FPS)
    turns = [*range(len(frames)), *reversed(range(len(frames)))]
    resized = (cv2.resize(frames[turns[i % len(turns)]], (width, height)) for i in range(count))
    media.write_video(path, resized, np.resize(sound, count * 640))
    return path


def synthetic_clips(folder: Path, count: int, seconds: float) -> list[Path]:
    """Synthetic clips of different people, 128 pixels square."""
    from visavox.synthetic.clips import render

    paths = [folder / f"synthetic_{identity}.mp4" for identity in range(count)]
    for identity, path in enumerate(paths):
        clip = render(identity, identity, seconds, size=128)
        media.write_video(path, clip.frames, clip.audio)
    return paths


def _source(data: Path | None, seconds: float) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """Frames (H, W, 3) uint8 RGB in 16:9 and sound (N,) int16."""
    if data:
        with media.open_video(data / CLIP, max_seconds=seconds) as video:
            return list(video.frames()), video.audio()
    from visavox.synthetic.clips import render

    clip = render(1, 1, min(seconds, 4), size=256)
    side = round(256 * 16 / 18) * 2 - 256
    return np.pad(clip.frames, ((0, 0), (0, 0), (side // 2, side - side // 2), (0, 0)), mode="edge"), clip.audio


def _looped(short: Path, path: Path, seconds: float) -> Path:
    """The packets of `short` again and again, not encoded anew."""
    import imageio_ffmpeg

    words = ["-loglevel", "error", "-stream_loop", "-1", "-i", str(short), "-c", "copy", "-t", str(seconds), str(path)]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *words], check=True)
    return path
