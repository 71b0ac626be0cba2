"""Forged pictures: faces blended with a changed copy of themselves, with their own past and future, or put out of order.

The sound stays as it is. T frames of the stretch · S side of a crop in pixels

Sources of the constants: self-blended images (SBI, Shiohara and Yamasaki, 2022), their form for video (FakeSTormer, 2025), region
masks (SAVe, 2026), blending with frames nearby (AVPF, 2026). Lengths are those of SBI's 256-pixel faces and scale with the crop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from visavox.bundle import BundleError
from visavox.pseudofakes import dense as _dense
from visavox.pseudofakes.dense import part_of
from visavox.pseudofakes.footage import Footage
from visavox.pseudofakes.forgery import Forgery, Segment, Span, gates, ramp, short_span
from visavox.pseudofakes.hull import face_boxes, filled, outlines, steady

LEAST_CHANGE = 1.0
"""Grey levels that a blended face differs by on average where its mask is above a half; a weaker draw is drawn again."""
TRIES = 20
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
"""Of blending, drawn once per clip (SBI)."""
FOREHEAD = 0.75
"""Share of clips whose outline holds the forehead: SBI's hull is that of 81 landmarks, in a quarter that of 68."""
NEARBY = 2
"""Frames between a frame and the one that `shift_blend` takes the lower face from (AVPF's VSB)."""
EVERY = 3
"""`shift_blend` makes its mask anew on every so manieth frame."""


class Look(NamedTuple):
    """How the copy differs, drawn once per clip and the same on every frame."""

    curves: np.ndarray
    """(256, 3) uint8: red, green and blue before -> after."""
    saturation: float
    detail: int
    """The copy is made smaller by this and larger again; 1: it is not."""
    sharpness: float
    """0: it is not sharpened."""
    move: np.ndarray
    """(2, 3) float64: affine transform of the copy, crop pixels."""
    bend: np.ndarray
    """(S, S, 2) float32: where in the mask each pixel of the bent mask is read."""
    blur: tuple[float, float]
    """Sigmas of the two Gaussians over the mask, pixels."""
    ratio: float
    """Of blending, 0 to 1."""
    copy_below: bool
    """The changed copy is what is cut out; else it is what the untouched face is put into."""


def sbv(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None = None) -> Forgery:
    """Self-blended video: the face blended with a recoloured, displaced copy of itself, one draw for the whole clip."""
    return _blended(footage, span, rng, "whole" if rng.random() < FOREHEAD else "face")


def region(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None = None) -> Forgery:
    """`sbv` within a region: the face, the lower face or the lips."""
    return _blended(footage, span, rng, str(rng.choice(["face", "lower", "lips"])))


def shift_blend(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None = None) -> Forgery:
    """The lower face of up to two frames before or after, blended in where windows of 0.5 to 1.5 s are open."""
    T, S = footage.length, footage.frames.shape[1]
    windows = gates(span, rng, float(footage.bundle.fps), (0.5, 1.5))
    weights = ramp(windows, T, 6)  # (T,)
    blur = (_sigma(rng.choice([11, 15, 21]), S), _sigma(rng.choice([21, 31, 41]), S))
    step = int(rng.choice([-NEARBY, NEARBY]))
    lower, boxes = _outliner(footage)("lower", None), face_boxes(footage)
    for attempt in range(TRIES):
        ratio = 1.0 if attempt else float(rng.choice(RATIOS))
        bend = _bend(rng, S, alpha=20, sigma=6)
        frames, masks = footage.frames.copy(), np.zeros((T, S, S), np.uint8)
        mask = np.zeros((S, S), np.float32)
        for n, t in enumerate(np.flatnonzero(weights)):
            if n % EVERY == 0 or not weights[t - 1]:
                mask = _soft(filled(lower[t], boxes[t], S), bend, blur)
            source = t + step if 0 <= t + step < T else (t - step) % T
            frames[t] = _mix(footage.frames[t], footage.frames[source], mask * (ratio * weights[t]))
            masks[t] = np.round(255 * ratio * weights[t] * mask)
        if _change(footage.frames, frames, masks) >= LEAST_CHANGE or attempt + 1 == TRIES:
            break
        step *= 2  # a face that holds still: look further
        step = int(np.clip(step, 1 - T, T - 1))
    return Forgery(footage.with_frames(frames), _segments(windows), masks)


def splice_picture(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None = None) -> Forgery:
    """0.2 to 1 s in which frames are left out, repeated, reversed or cross-faded with later ones; then it runs in step again."""
    T = footage.length
    best: tuple[float, Span, np.ndarray, np.ndarray] | None = None
    how = str(rng.choice(["drop", "repeat", "reverse", "cross_fade"]))
    for _ in range(4):  # of four places the one where most changes: a face that holds still hides a splice
        place = first, last = short_span(span, rng, float(footage.bundle.fps), (0.2, 1.0))
        n, order, frames = last - first, np.arange(T), footage.frames.copy()
        gap = max(1, n // 2)
        match how:
            case "drop":
                ahead = min(T - 1, last + gap - 1)
                order[first:last] = np.round(np.linspace(first + gap, ahead, n)).astype(int)
                same = order[first:last] == np.arange(first, last)
                place = first, last - int(same[::-1].argmin())  # at the clip's end it is in step again
            case "repeat":
                order[first:last] = first + np.arange(n) % gap
                place = first + gap, last  # until then nothing has come twice
            case "reverse":
                order[first:last] = np.arange(last - 1, first - 1, -1)
        if how == "cross_fade":
            later = footage.frames[(np.arange(first, last) + gap) % T].astype(np.float32)
            share = (0.5 * ramp([(0, n)], n, 2)).astype(np.float32)[:, None, None, None]
            here = frames[first:last].astype(np.float32)
            frames[first:last] = np.round(here + share * (later - here)).astype(np.uint8)
        else:
            frames = footage.frames[order]
        change = float(cv2.absdiff(frames[first:last], footage.frames[first:last]).mean())
        if best is None or change > best[0]:
            best = change, place, order, frames
    assert best is not None
    _, place, order, frames = best
    made = replace(footage, frames=frames, chosen=footage.chosen[order], landmarks=footage.landmarks[order])
    return Forgery(made, _segments([place]))


def cut(footage: Footage, span: Span, rng: np.random.Generator, other: Footage | None = None) -> Forgery:
    """0.2 to 1 s of somebody else's picture, cut in without a cross-fade; boxes and detector's scores stay the clip's own.

    Raises:
        BundleError: there is no other clip with crops of the same size.
    """
    if other is None or not other.bundle.has_track or other.bundle.faces.shape[1:] != footage.frames.shape[1:]:
        raise BundleError("cut needs a clip of somebody else with crops of the same size")
    first, last = short_span(span, rng, float(footage.bundle.fps), (0.2, 1.0))
    count = other.bundle.track_frames
    start = int(rng.integers(max(1, count - (last - first) + 1)))
    frames, landmarks = footage.frames.copy(), footage.landmarks.copy()
    for t in range(first, last):
        source = min(start + t - first, count - 1)
        frames[t], landmarks[t] = other.bundle.frame(source), other.bundle.landmarks[source]
    return Forgery(replace(footage, frames=frames, landmarks=landmarks), _segments([(first, last)]))


def _blended(footage: Footage, span: Span, rng: np.random.Generator, part: str) -> Forgery:
    T, S = footage.length, footage.frames.shape[1]
    first, last = span
    outline_of, boxes = _outliner(footage), face_boxes(footage)
    frames, masks = footage.frames.copy(), np.zeros((T, S, S), np.uint8)
    probes = sorted({first, (first + last) // 2, last - 1})
    for attempt in range(TRIES):
        outline = outline_of(part, rng.normal(0, 0.03, (64, 2)))
        look = _look(rng, S, small=part == "lips", strong=attempt + 1 == TRIES)
        if (first, last) != (0, T):  # surroundings that change for a moment only would give it away
            look = look._replace(copy_below=True)
        render = _renderer(footage.frames, outline, boxes, look)
        tried = [render(t) for t in probes]
        changes = [_change(footage.frames[t][None], f[None], m[None]) for t, (f, m) in zip(probes, tried)]
        if min(changes) >= LEAST_CHANGE:
            break
    for t in range(first, last):
        frames[t], masks[t] = render(t)
    return Forgery(footage.with_frames(frames), _segments([span]), masks)


def _outliner(footage: Footage) -> Callable[[str, np.ndarray | None], np.ndarray]:
    """Return (part, jitter (64, 2) or None) -> outlines (T, P, 2) of the footage, of five landmarks or of 68."""
    size = footage.frames.shape[1]
    if footage.points != 68:
        five = steady(footage.landmarks, size)
        return lambda part, jitter: outlines(five, part, jitter)
    dense = steady(_dense.landmarks(footage.frames, face_boxes(footage)), size)

    def of_68(part: str, jitter: np.ndarray | None) -> np.ndarray:
        points = part_of(dense, part)
        if jitter is None:
            return points
        eyes = np.linalg.norm(dense[:, 36:42].mean(1) - dense[:, 42:48].mean(1), axis=1)  # (T,)
        moved = np.resize(jitter, (points.shape[1], 2))
        return (points + moved[None] * eyes[:, None, None]).astype(np.float32)

    return of_68


def _renderer(
    frames: np.ndarray, outline: np.ndarray, boxes: np.ndarray, look: Look
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Return t -> frame t blended (S, S, 3) uint8, and its mask (S, S) uint8."""
    S = frames.shape[1]

    def render(t: int) -> tuple[np.ndarray, np.ndarray]:
        mask = look.ratio * _soft(filled(outline[t], boxes[t], S), look.bend, look.blur)
        here = frames[t]
        if look.copy_below:
            moved = cv2.warpAffine(_recoloured(here, look), look.move, (S, S), borderMode=cv2.BORDER_REFLECT_101)
            mixed = _mix(here, moved, mask)
        else:  # the surroundings are changed, the face is the displaced one
            moved = cv2.warpAffine(here, look.move, (S, S), borderMode=cv2.BORDER_REFLECT_101)
            mixed = _mix(_recoloured(here, look), moved, mask)
        return mixed, np.round(255 * mask).astype(np.uint8)

    return render


def _look(rng: np.random.Generator, size: int, *, small: bool, strong: bool) -> Look:
    """Draw how a copy differs. `small` regions are moved less; `strong` always recolours and blends in full."""
    shift = rng.uniform(-20, 20, 3) if rng.random() < 0.3 or strong else np.zeros(3)
    if strong:
        shift = np.where(shift < 0, -1, 1) * np.maximum(np.abs(shift), 10)
    contrast, brightness = 1 + rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1) * 255
    curves = np.arange(256)[:, None] * contrast + brightness + shift  # (256, 3)
    saturation = float(rng.uniform(0.7, 1.3)) if rng.random() < 0.3 else 1.0
    softened = rng.random() < 0.5
    zoom = rng.uniform(0.95, 1 / 0.95)
    aside = rng.uniform([-0.03, -0.015], [0.03, 0.015]) * size * (0.5 if small else 1.0)
    centre = size / 2
    move = np.array([[zoom, 0, (1 - zoom) * centre + aside[0]], [0, zoom, (1 - zoom) * centre + aside[1]]])
    kernels = rng.integers(2, 13, 2) * 2 + 1  # 5 to 25
    return Look(
        curves=np.clip(np.round(curves), 0, 255).astype(np.uint8),
        saturation=saturation,
        detail=int(rng.choice([2, 4])) if softened else 1,
        sharpness=0.0 if softened else float(rng.uniform(0.2, 0.5)),
        move=move,
        bend=_bend(rng, size, alpha=50, sigma=7),
        blur=(_sigma(kernels[0], size) * (0.5 if small else 1), _sigma(kernels[1], size) * (0.5 if small else 1)),
        ratio=1.0 if strong else float(rng.choice(RATIOS)),
        copy_below=bool(rng.random() < 0.5) or small,
    )


def _recoloured(frame: np.ndarray, look: Look) -> np.ndarray:
    """A frame (S, S, 3) uint8 as the copy looks, in its place."""
    S = frame.shape[1]
    out = cv2.LUT(frame, look.curves[None])
    if look.saturation != 1:
        grey = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        out = cv2.addWeighted(out, look.saturation, grey, 1 - look.saturation, 0)
    if look.detail > 1:
        little = cv2.resize(out, (S // look.detail, S // look.detail), interpolation=cv2.INTER_AREA)
        out = cv2.resize(little, (S, S), interpolation=cv2.INTER_LINEAR)
    if look.sharpness:
        out = cv2.addWeighted(out, 1 + 4 * look.sharpness, cv2.GaussianBlur(out, (3, 3), 0), -4 * look.sharpness, 0)
    return out


def _bend(rng: np.random.Generator, size: int, alpha: float, sigma: float) -> np.ndarray:
    """An elastic deformation: noise of `alpha` pixels under a Gaussian of `sigma`, as a map (size, size, 2) float32."""
    unit = size / 256
    noise = rng.uniform(-1, 1, (size, size, 2)).astype(np.float32)
    offset = cv2.GaussianBlur(noise, (0, 0), max(sigma * unit, 0.5)) * (alpha * unit)
    return offset + np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(np.float32)


def _soft(mask: np.ndarray, bend: np.ndarray, blur: tuple[float, float]) -> np.ndarray:
    """Bend a mask (S, S) float32, draw its edge in and soften it; 0 outside of it, 1 at its highest."""
    bent = cv2.remap(mask, bend[..., 0], bend[..., 1], cv2.INTER_LINEAR) * (mask > 0)
    drawn_in = (cv2.GaussianBlur(bent, (0, 0), blur[0]) > 0.75).astype(np.float32)
    soft = cv2.GaussianBlur(drawn_in if drawn_in.any() else bent, (0, 0), blur[1]) * (mask > 0)
    return soft / max(float(soft.max()), 1e-6)


def _mix(under: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Pictures (S, S, 3) uint8, share of the upper one (S, S) float32 in [0, 1] -> (S, S, 3) uint8."""
    below = under.astype(np.float32)
    return np.round(below + share[..., None].astype(np.float32) * (over - below)).astype(np.uint8)


def _sigma(kernel: int, size: int) -> float:
    """OpenCV's sigma of a Gaussian kernel of so many pixels of a 256-pixel face, in pixels of this size."""
    return float((0.3 * ((kernel - 1) / 2 - 1) + 0.8) * size / 256)


def _change(before: np.ndarray, after: np.ndarray, masks: np.ndarray) -> float:
    """Mean difference in grey levels where the mask has at least half of its highest value."""
    where = masks >= max(1, int(masks.max()) / 2)
    return float(cv2.absdiff(before, after)[where].mean()) if where.any() else 0.0


def _segments(windows: Sequence[Span]) -> tuple[Segment, ...]:
    return tuple(Segment(first, last, "picture") for first, last in windows)
