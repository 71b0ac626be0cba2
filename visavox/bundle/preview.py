"""Pictures and films of a bundle, for looking at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from visavox.bundle.schema import Bundle
from visavox.features.audio import mel_images
from visavox.files import replacing

CELL = 112


def save_image(bundle: Bundle, path: Path) -> None:
    """One PNG: up to 16 faces, the mel images of the same stretches below them, and the audio-visual distance curve."""
    n = min(16, len(bundle.faces))
    chosen = bundle.faces[np.arange(n) * len(bundle.faces) // n]
    faces = [cv2.resize(face, (CELL, CELL), interpolation=cv2.INTER_AREA) for face in chosen]
    mels = mel_images(bundle.mel_3cs, n, CELL)  # (3, n, CELL, CELL) in [-1, 1]
    mels = ((mels.transpose(1, 2, 3, 0) + 1) * 127.5).round().astype(np.uint8)
    rows = [np.concatenate(faces, axis=1), np.concatenate(list(mels), axis=1), _curve(bundle, n * CELL)]
    with replacing(path) as beside:
        beside.write_bytes(cv2.imencode(".png", np.concatenate(rows)[..., ::-1])[1].tobytes())


def save_avi(bundle: Bundle, path: Path, rate: int) -> None:
    """The face track with its sound as AVI (MPEG-4 and 16-bit PCM), written by MoviePy.

    Raises:
        BundleError: the bundle was made with store_track=false.
    """
    from moviepy import AudioArrayClip, VideoClip

    fps, last = float(bundle.fps), bundle.track_frames - 1
    clip = VideoClip(lambda t: bundle.frame(min(last, round(t * fps))), duration=bundle.track_frames / fps)
    if bundle.audio is not None and len(bundle.audio):
        sound = bundle.audio.astype(np.float64)[:, None].repeat(2, axis=1) / 32768  # (N, 2)
        clip = clip.with_audio(AudioArrayClip(sound, fps=rate))
    with replacing(path, ending=".avi") as beside:
        clip.write_videofile(str(beside), fps=fps, codec="mpeg4", bitrate="4000k", audio_codec="pcm_s16le", logger=None)


def _curve(bundle: Bundle, width: int, height: int = CELL) -> np.ndarray:
    """mdist against the shift, minimum marked: (height, width, 3) uint8 RGB."""
    canvas = np.full((height, width, 3), 255, np.uint8)
    if np.isnan(bundle.mdist).any():
        cv2.putText(
            canvas, f"{bundle.status}, sync {bundle.sync}", (8, height // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (90,) * 3
        )
        return canvas
    low, high = bundle.mdist.min(), bundle.mdist.max()
    x = np.linspace(8, width - 8, len(bundle.mdist))
    y = height - 24 - (bundle.mdist - low) / max(high - low, 1e-6) * (height - 40)
    points = np.stack([x, y], axis=1).round().astype(np.int32)
    cv2.polylines(canvas, [points], False, (30, 90, 200), 1, cv2.LINE_AA)
    best = int(bundle.mdist.argmin())
    cv2.circle(canvas, tuple(int(v) for v in points[best]), 4, (200, 40, 40), -1, cv2.LINE_AA)
    label = f"latency {float(bundle.latency):+.0f} frames, conf {float(bundle.conf):.2f}, {bundle.sync}"
    cv2.putText(canvas, label, (8, height - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (60,) * 3, 1, cv2.LINE_AA)
    return canvas
