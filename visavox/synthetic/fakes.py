"""Four ways to forge a genuine synthetic clip; each changes what its name says and nothing else.

    audio_shifted   the voice moved by 3 to 12 frames, either way
    audio_swapped   the voice of another utterance
    face_blended    the inner face replaced by a recoloured, resampled, displaced copy (self-blending, Shiraishi and
                    Yamasaki 2022), with a seam that flickers
    voice_vocoded   the voice reduced to a mel spectrum and sounded again from noise (Griffin and Lim 1984)

Length, loudness and mean brightness stay, and a forged clip is encoded once, like a genuine one.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from visavox.synthetic.clips import MAX_SHIFT, Clip, at_level, render
from visavox.synthetic.voice import RATE

KINDS = ("audio_shifted", "audio_swapped", "face_blended", "voice_vocoded")
FORGED_SOUND, FORGED_PICTURE = ("voice_vocoded",), ("face_blended",)
"""Kinds of which one half is forged by itself; in the others both are genuine and do not belong together."""
MIN_SHIFT = 3  # frames

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
COLD = np.array([-1.0, 0.3, 0.6])  # RGB
# what a face swap replaces, face units: brows, cheeks, and round below the mouth
RIGHT_HALF = [(0.66, -0.36), (0.78, 0.2), (0.66, 0.75), (0.38, 1.12)]
INNER_FACE = np.array([(0, -0.44), *RIGHT_HALF, (0, 1.22), *((-x, y) for x, y in reversed(RIGHT_HALF))], np.float32)


class Forgery(NamedTuple):
    clip: Clip
    shift: int  # frames that the sound was moved, + = late; 0 for the other kinds
    donors: tuple[int, ...]  # identities borrowed from


def forge(kind: str, identity: int, seed: int, seconds: float, size: int = 256, *, donor: int | None = None) -> Forgery:
    """The clip `render(identity, seed, seconds, size)`, forged.

    The voice of `audio_swapped` is another utterance of `donor`, by default of the identity itself.
    """
    rng = np.random.default_rng([identity, seed, 7])
    if kind == "audio_shifted":
        shift = int(rng.integers(MIN_SHIFT, MAX_SHIFT + 1) * rng.choice([-1, 1]))
        return Forgery(render(identity, seed, seconds, size, shift=shift), shift, ())
    if kind == "audio_swapped":
        donor = identity if donor is None else donor
        other = int(rng.integers(2**31))
        return Forgery(render(identity, seed, seconds, size, voice=(donor, other)), 0, (donor,))
    clip = render(identity, seed, seconds, size)
    if kind == "face_blended":
        return Forgery(clip._replace(frames=blend_face(clip.frames, clip.poses, rng)), 0, ())
    if kind == "voice_vocoded":
        return Forgery(clip._replace(audio=vocode(clip.audio, rng)), 0, ())
    raise ValueError(f"{kind!r} is no kind of fake; the kinds are {', '.join(KINDS)}")


def blend_face(frames: np.ndarray, poses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blends a changed copy of the inner face into frames (T, H, W, 3) uint8; poses (T, 2, 3) face units -> pixels.

    As from the autoencoder of a face swap, the copy comes back paler, colder and with less detail, but of equal luma;
    it lies a little beside its place and is larger or smaller.
    """
    height, width = frames.shape[1:3]
    hull = INNER_FACE + rng.normal(0, 0.03, INNER_FACE.shape).astype(np.float32)
    unit = float(np.hypot(*poses[0, :, 0]))  # pixels
    feather = unit * rng.uniform(0.02, 0.04)
    tint = COLD + rng.normal(0, 0.2, 3)
    tint -= LUMA @ tint  # no luma: LUMA sums to 1
    tint *= rng.uniform(32, 44) / np.linalg.norm(tint)
    contrast = rng.uniform(0.6, 0.75)
    detail = rng.uniform(0.3, 0.45)
    zoom = 1 + rng.choice([-1, 1]) * rng.uniform(0.03, 0.06)
    aside = unit * rng.uniform(-0.04, 0.04, 2)
    flicker = 1 + 0.08 * rng.standard_normal(len(frames))

    forged = frames.copy()
    for n, (frame, pose) in enumerate(zip(frames, poses, strict=True)):
        edge = hull @ pose[:, :2].T + pose[:, 2] + rng.normal(0, 0.4, 2)  # (10, 2) pixels
        rows, columns = _around(edge, round(4 * feather + 2), height, width)
        part = frame[rows, columns].astype(np.float32)
        mask = np.zeros(part.shape[:2], np.float32)
        corner = [columns.start, rows.start]
        cv2.fillPoly(mask, [((_rounded(edge) - corner) * 16).astype(np.int32)], 1.0, cv2.LINE_AA, shift=4)
        mask = cv2.GaussianBlur(mask, (0, 0), feather)[..., None]

        middle = edge.mean(0) - corner
        to = aside + (1 - zoom) * middle
        move = np.array([[zoom, 0, to[0]], [0, zoom, to[1]]], np.float32)
        copy = cv2.warpAffine(part, move, part.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        small = cv2.resize(copy, None, fx=detail, fy=detail, interpolation=cv2.INTER_AREA)
        copy = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        average = (copy * mask).sum((0, 1)) / mask.sum()
        copy = average + (copy - average) * contrast + tint * flicker[n]
        copy -= ((copy - part) * mask).sum((0, 1)) @ LUMA / mask.sum()  # mean luma as before
        forged[n, rows, columns] = np.clip(part + (copy - part) * mask + 0.5, 0, 255)
    return forged


def vocode(audio: np.ndarray, rng: np.random.Generator, *, bands: int = 40, rounds: int = 3) -> np.ndarray:
    """Analysis and resynthesis of audio (N,) int16 at 16 kHz through `bands` mel bands, loudness kept.

    The harmonics between the bands are lost, and so is the phase: a few rounds of Griffin and Lim from random phase
    leave the voice hoarse and smeared over the 32 ms window. The bands end at 5 to 6.2 kHz, with nothing above.
    """
    window = np.hanning(513)[:-1]
    spectrum = _stft(audio / 32768, window)  # (M, 257)
    bank = _mel_bank(bands, rng.uniform(5000, 6200), spectrum.shape[1])
    energy = np.abs(spectrum) ** 2 @ bank.T  # (M, bands)
    size = np.sqrt(energy @ (bank / bank.sum(1, keepdims=True)))  # (M, 257)
    guess = size * np.exp(2j * np.pi * rng.random(size.shape))
    for _ in range(rounds):
        again = _stft(_istft(guess, window, len(audio)), window)
        guess = size * again / (np.abs(again) + 1e-9)
    level = float(np.sqrt(np.mean(np.square(audio / 32768))))
    return at_level(_istft(guess, window, len(audio)), level)


def _around(points: np.ndarray, margin: int, height: int, width: int) -> tuple[slice, slice]:
    (left, top), (right, bottom) = points.min(0).astype(int) - margin, points.max(0).astype(int) + margin
    return slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))


def _rounded(polygon: np.ndarray) -> np.ndarray:
    """Cuts the corners of a closed polygon twice (Chaikin 1974)."""
    for _ in range(2):
        after = np.roll(polygon, -1, axis=0)
        polygon = np.stack([0.75 * polygon + 0.25 * after, 0.25 * polygon + 0.75 * after], 1).reshape(-1, 2)
    return polygon


def _stft(sound: np.ndarray, window: np.ndarray) -> np.ndarray:
    """(N,) -> (M, 257), hop a quarter of the window, centred."""
    half, hop = len(window) // 2, len(window) // 4
    padded = np.pad(sound, (half, half + hop))
    return np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, len(window))[::hop] * window)


def _istft(spectrum: np.ndarray, window: np.ndarray, samples: int) -> np.ndarray:
    """The inverse of `_stft` by weighted overlap-add."""
    hop = len(window) // 4
    frames = np.fft.irfft(spectrum) * window  # (M, 512)
    out, weight = np.zeros((2, (len(frames) + 3) * hop))
    for quarter in range(4):
        span = slice(quarter * hop, quarter * hop + len(frames) * hop)
        piece = slice(quarter * hop, (quarter + 1) * hop)
        out[span] += frames[:, piece].ravel()
        weight[span] += np.tile(window[piece] ** 2, len(frames))
    start = len(window) // 2
    return (out / np.maximum(weight, 1e-3))[start : start + samples]


def _mel_bank(bands: int, highest: float, bins: int) -> np.ndarray:
    """Triangles of equal width on the mel scale up to `highest` Hz: (bands, bins)."""
    top = 2595 * np.log10(1 + highest / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)  # Hz
    hertz = np.linspace(0, RATE / 2, bins)
    rise = (hertz - edges[:-2, None]) / np.diff(edges[:-1])[:, None]
    fall = (edges[2:, None] - hertz) / np.diff(edges[1:])[:, None]
    return np.maximum(0, np.minimum(rise, fall))
