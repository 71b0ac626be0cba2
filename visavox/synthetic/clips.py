"""A whole clip: one identity filmed while it speaks, in a room, through a camera and a microphone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visavox.synthetic.face import FPS, draw_frames, look_of
from visavox.synthetic.voice import HOP, RATE, TRACK_RATE, Articulation, articulate, speak, voice_of

MAX_SHIFT = 12  # frames that the sound can be moved either way
SAMPLES_PER_FRAME = RATE // FPS


class Clip(NamedTuple):
    """T frames at 25 fps and the sound over exactly the same time, at 16 kHz."""

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    audio: np.ndarray  # (640 T,) int16 mono
    articulation: Articulation  # of the face, (4 T,) steps of 10 ms
    landmarks: np.ndarray  # (T, 5, 2) float32 pixels: eyes, nose, corners of the mouth, image-left first
    poses: np.ndarray  # (T, 2, 3) float32, face units (see `face`) -> pixels


def render(
    identity: int,
    seed: int,
    seconds: float,
    size: int = 256,
    *,
    shift: int = 0,
    voice: tuple[int, int] | None = None,
) -> Clip:
    """A genuine clip, the same for the same arguments, `size` pixels square.

    `shift` moves the sound by so many frames, + = audio late; `voice` = (identity, seed) puts the sound of that
    utterance in place of the clip's own. Either way the sound is cut from a longer utterance, so neither silence nor
    padding shows it, and the frames stay what they are without.
    """
    if not -MAX_SHIFT <= shift <= MAX_SHIFT:
        raise ValueError(f"shift is {shift} frames; give one from {-MAX_SHIFT} to {MAX_SHIFT}")
    count = round(seconds * FPS)
    spare = MAX_SHIFT * TRACK_RATE // FPS  # steps of articulation before and after what is seen
    track = _utterance(identity, seed, count, spare)
    seen = Articulation(*(part[spare : len(part) - spare] for part in track))
    scene = draw_frames(look_of(identity), seen, count, size, np.random.default_rng([identity, seed, 4]))
    speaker = voice or (identity, seed)
    heard = speak(voice_of(speaker[0]), _utterance(*speaker, count, spare), np.random.default_rng([*speaker, 5]))
    start = spare * HOP - shift * SAMPLES_PER_FRAME
    audio = _record(heard[start : start + count * SAMPLES_PER_FRAME], np.random.default_rng([identity, seed, 6]))
    return Clip(scene.frames, audio, seen, scene.landmarks, scene.poses)


def at_level(sound: np.ndarray, rms: float) -> np.ndarray:
    """Sound (N,) scaled to this RMS of full scale, as int16."""
    gain = rms / (np.sqrt(np.mean(np.square(sound, dtype=np.float64))) + 1e-12)
    return np.clip(np.round(sound * gain * 32768), -32768, 32767).astype(np.int16)


def _utterance(identity: int, seed: int, frames: int, spare: int) -> Articulation:
    seconds = frames / FPS + 2 * spare / TRACK_RATE
    return articulate(voice_of(identity), seconds, np.random.default_rng([identity, seed, 3]))


def _record(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The microphone: a first-order tilt, the room's noise 32 to 50 dB below the voice, a level of -28 to -22 dBFS."""
    tilt = rng.uniform(-0.25, 0.25)
    sound = sound + tilt * np.concatenate([[0.0], sound[:-1]])
    noise = np.convolve(rng.standard_normal(len(sound)), [0.6, 0.3, 0.1], mode="same")
    sound = sound + noise * np.std(sound) * 10 ** (rng.uniform(-50, -32) / 20)
    return at_level(sound, 10 ** (rng.uniform(-28, -22) / 20))
