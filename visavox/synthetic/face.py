"""A face that talks, painted with shaded ellipses.

Everything is placed in *face units*: the origin lies between the eyes, x to the image's right, y down, and 1 is half
the width of the face, so the chin is near y = 1.4. A still head is painted once per clip (RGBA); every frame then
lowers the jaw, puts the mouth and the eyelids on, moves the head and lays it over the background.

The shading is what the two detectors look for: dark sockets beside a bright bridge of the nose for the Haar cascade,
brows, nostrils and lips for RetinaFace.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from visavox.synthetic.voice import TRACK_RATE, Articulation

FPS = 25
NOSE = (0.0, 0.55)  # tip, face units
MOUTH_Y = 0.93
JAW_DROP = 0.40  # face units between the lips, wide open


class Look(NamedTuple):
    """What stays the same whenever one identity is filmed; colours are RGB in 0..1, lengths in face units."""

    skin: np.ndarray
    hair: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    cloth: np.ndarray
    wall: np.ndarray  # (2, 3) background, top and bottom
    face_width: float
    chin: float
    jaw: float  # exponent of the outline: 2 is an ellipse, more is squarer
    eye_x: float
    eye_size: float
    brow: float  # thickness
    brow_tilt: float
    nose: float
    lip_width: float
    lip_full: float
    hairline: float
    hair_length: float  # y at which the hair ends


class Scene(NamedTuple):
    """One filmed clip: T frames of 25 a second."""

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    landmarks: np.ndarray  # (T, 5, 2) float32 pixels: eyes, nose, mouth corners, image-left first
    poses: np.ndarray  # (T, 2, 3) float32, face units -> pixels


class _Plane(NamedTuple):
    """The canvas of the still head in face units."""

    x: np.ndarray  # (S, S)
    y: np.ndarray  # (S, S)
    scale: float  # pixels in one unit
    centre: np.ndarray  # (2,) pixels of the origin


def look_of(identity: int) -> Look:
    rng = np.random.default_rng([identity, 1])
    tone = rng.uniform(0, 1)
    skin = (1 - tone) * np.array([0.93, 0.76, 0.66]) + tone * np.array([0.44, 0.29, 0.21])
    skin = skin + rng.normal(0, 0.012, 3)
    dark, brown, blue = np.array([[0.10, 0.08, 0.07], [0.25, 0.14, 0.08], [0.30, 0.38, 0.48]])
    hair = dark + rng.uniform(0, 0.35 * (1 - tone) + 0.05) * np.array([1.0, 0.7, 0.35])
    return Look(
        skin=skin,
        hair=hair,
        lips=skin * np.array([0.86, 0.56, 0.58]) + rng.uniform(-0.03, 0.05, 3) * np.array([1, 0.4, 0.5]),
        iris=brown + (blue - brown) * rng.uniform(0, 1) ** 2,
        cloth=rng.uniform(0.1, 0.8, 3),
        wall=rng.uniform(0.25, 0.75) + rng.uniform(-0.13, 0.13, (2, 3)),
        face_width=rng.uniform(0.93, 1.03),
        chin=rng.uniform(1.30, 1.45),
        jaw=rng.uniform(2.0, 2.6),
        eye_x=rng.uniform(0.385, 0.43),
        eye_size=rng.uniform(0.17, 0.205),
        brow=rng.uniform(0.06, 0.11),
        brow_tilt=rng.uniform(-0.06, 0.06),
        nose=rng.uniform(0.85, 1.2),
        lip_width=rng.uniform(0.34, 0.42),
        lip_full=rng.uniform(0.07, 0.12),
        hairline=rng.uniform(0.78, 0.98),
        hair_length=rng.choice([-0.3, 0.1, 1.0, 1.7]),
    )


def draw_frames(look: Look, track: Articulation, frames: int, size: int, rng: np.random.Generator) -> Scene:
    """Films `frames` frames of size x size; frame n shows the articulation at n/25 s."""
    scale = size * rng.uniform(0.19, 0.215)
    centre = size * np.array([0.5, 0.44]) + rng.uniform(-0.02, 0.02, 2) * size
    plane = _plane(size, scale, centre)
    head, behind = _paint(look, plane, rng)
    shut = _close_eyes(look, plane, head)

    step = np.minimum(np.arange(frames) * TRACK_RATE // FPS, len(track.opening) - 1)
    opening, width = track.opening[step], track.width[step]
    lips = _mouths(look, plane, opening, width)
    drop = _jaw_drop(plane)
    lids = _blinks(frames, rng)
    motion = _sway(frames, size, centre + scale * np.array([0, 1.6]), rng)  # (T, 2, 3) canvas -> frame

    out = np.empty((frames, size, size, 3), np.uint8)
    grain = [rng.normal(0, rng.uniform(1.0, 2.5), (size, size, 3)).astype(np.int16) for _ in range(4)]
    for n in range(frames):
        picture = _lower_jaw(head, plane, drop * opening[n])
        _blend_eyes(picture, shut, plane, lids[n])
        _paste(picture, lips.patches[n], lips.corner)
        picture = cv2.warpAffine(picture, motion[n], (size, size), flags=cv2.INTER_LINEAR)
        picture = _over(picture, behind).astype(np.int16) + np.roll(grain[n % 4], int(rng.integers(size)), 1)
        out[n] = np.clip(picture, 0, 255)
    poses = motion[:, :, :2] @ np.array([[scale, 0, centre[0]], [0, scale, centre[1]]], np.float32)
    poses[:, :, 2] += motion[:, :, 2]
    return Scene(out, _landmarks(look, poses, width), poses.astype(np.float32))


def _plane(size: int, scale: float, centre: np.ndarray) -> _Plane:
    x, y = np.meshgrid((np.arange(size) - centre[0]) / scale, (np.arange(size) - centre[1]) / scale)
    return _Plane(x.astype(np.float32), y.astype(np.float32), float(scale), centre)


def _inside(distance: np.ndarray, soft: float) -> np.ndarray:
    """1 inside (distance < 0), 0 outside, a ramp of width `soft` between."""
    return np.clip(0.5 - distance / soft, 0, 1)


def _bump(plane: _Plane, x: float, y: float, across: float, down: float) -> np.ndarray:
    return np.exp(-(((plane.x - x) / across) ** 2) - ((plane.y - y) / down) ** 2)


def _pair(plane: _Plane, x: float, y: float, across: float, down: float) -> np.ndarray:
    """The same bump on both sides of the face."""
    return _bump(plane, -x, y, across, down) + _bump(plane, x, y, across, down)


def _mix(picture: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return picture + (colour - picture) * alpha[..., None]


def _paint(look: Look, plane: _Plane, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The still head (S, S, 4) uint8 premultiplied RGBA with eyes open and no mouth, and (S, S, 3) uint8 behind it."""
    pixel = 1.5 / plane.scale
    x, y = plane.x, plane.y
    outline = _outline(look, plane)
    face = _inside(outline, pixel)
    skin = _skin(look, plane, rng)

    crown = np.sqrt((x / (look.face_width * 1.13)) ** 2 + ((y + 0.12) / 1.42) ** 2) - 1
    fringe = y + look.hairline - 0.34 * (x / look.face_width) ** 2 * (1 + look.hairline)
    sides = np.maximum(np.abs(x) - look.face_width * 1.14, y - look.hair_length)
    back = np.maximum(np.where(y < 0, crown, sides), y - look.hair_length)
    hair = look.hair * _strands(plane, rng)[..., None]

    picture = hair * 0.75
    alpha = _inside(back, pixel)
    for layer, cover in (
        (skin * 0.85, _ears(look, plane)),
        (skin, face),
        (hair, np.minimum(_inside(crown, 2 * pixel), _inside(fringe, 0.09))),
    ):
        picture = _mix(picture, layer, cover)
        alpha = np.maximum(alpha, cover)
    picture = _eyes(look, plane, picture)
    picture = _brows(look, plane, picture)
    head = np.dstack([np.clip(picture, 0, 1) * alpha[..., None], alpha])
    return (head * 255 + 0.5).astype(np.uint8), _behind(look, plane, rng)


def _outline(look: Look, plane: _Plane) -> np.ndarray:
    """About the signed distance to the edge of the face, face units, negative inside."""
    upper = np.sqrt((plane.x / look.face_width) ** 2 + (plane.y / 1.38) ** 2)
    across = np.abs(plane.x / look.face_width) ** look.jaw
    lower = (across + np.abs(plane.y / look.chin) ** (look.jaw + 0.3)) ** (1 / look.jaw)
    return np.where(plane.y < 0, upper, lower) - 1


def _skin(look: Look, plane: _Plane, rng: np.random.Generator) -> np.ndarray:
    """Shaded skin (S, S, 3) in 0..1: a lit ellipsoid, sockets, nose, cheeks, blotches and pores."""
    x, y, ex = plane.x, plane.y, look.eye_x
    light = rng.uniform(-0.10, 0.10)
    shade = 1.04 - 0.30 * (0.75 * x**2 + 0.35 * (y - 0.1) ** 2) ** 1.4 + light * x
    shade -= 0.30 * _pair(plane, ex, -0.03, 0.27, 0.17)  # sockets
    shade -= 0.10 * _pair(plane, ex * 0.62, 0.02, 0.09, 0.12)  # inner corners
    shade += 0.09 * _bump(plane, 0, -0.72, 0.55, 0.25)  # forehead
    shade += 0.16 * _bump(plane, 0, 0.12, 0.085, 0.38)  # bridge of the nose
    shade += 0.13 * _bump(plane, 0, 0.50, 0.10 * look.nose, 0.10)  # tip
    shade -= 0.13 * _pair(plane, 0.17 * look.nose, 0.36, 0.07, 0.22)  # sides of the nose
    shade -= 0.16 * _pair(plane, 0.21 * look.nose, 0.57, 0.05, 0.08)  # wings
    shade -= 0.55 * _pair(plane, 0.095 * look.nose, 0.645, 0.055, 0.030)  # nostrils
    shade -= 0.12 * _bump(plane, 0, 0.71, 0.20, 0.06)
    shade += 0.10 * _pair(plane, 0.52, 0.42, 0.24, 0.22)  # cheeks
    shade -= 0.10 * _pair(plane, 0.40, 0.75, 0.05, 0.18)  # folds beside the mouth
    shade -= 0.14 * _bump(plane, 0, MOUTH_Y + 0.17, 0.22, 0.05)  # below the lip
    shade += 0.07 * _bump(plane, 0, 1.22, 0.22, 0.10)
    blotches = cv2.resize(rng.normal(0, 0.018, (12, 12)), x.shape[::-1], interpolation=cv2.INTER_CUBIC)
    pores = cv2.GaussianBlur(rng.normal(0, 0.045, x.shape), (0, 0), 0.8)
    skin = look.skin * (shade + blotches + pores)[..., None]
    flush = _pair(plane, 0.52, 0.48, 0.26, 0.22) * 0.10
    return (skin * (1 + flush[..., None] * np.array([0.3, -0.6, -0.5]))).astype(np.float32)


def _strands(plane: _Plane, rng: np.random.Generator) -> np.ndarray:
    """Brightness of hair (S, S): streaks that fall with y, and a shine on the crown."""
    streaks = cv2.GaussianBlur(rng.normal(0, 1.0, plane.x.shape), (0, 0), sigmaX=0.9, sigmaY=9)
    return (1 + 1.2 * streaks + 0.5 * _bump(plane, -0.2, -1.15, 0.6, 0.18)).astype(np.float32)


def _ears(look: Look, plane: _Plane) -> np.ndarray:
    inside = ((np.abs(plane.x) - look.face_width * 0.99) / 0.12) ** 2 + ((plane.y - 0.2) / 0.27) ** 2
    return _inside(np.sqrt(inside) - 1, 0.2)


def _lids(look: Look, plane: _Plane) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per pixel the place across an eye (-1..1 within it), and y of the upper and the lower lid's edge."""
    across = (np.abs(plane.x) - look.eye_x) / look.eye_size
    arch = np.maximum(0, 1 - across**2)
    return across, -0.50 * look.eye_size * arch**0.8, 0.36 * look.eye_size * arch


def _eyes(look: Look, plane: _Plane, picture: np.ndarray) -> np.ndarray:
    x, y, size = plane.x, plane.y, look.eye_size
    pixel = 1.5 / plane.scale
    across, upper, lower = _lids(look, plane)
    opened = _inside(np.maximum(np.maximum(upper - y, y - lower), (np.abs(across) - 1) * size), pixel)
    picture = _mix(picture, np.array([0.84, 0.81, 0.79]) - 0.25 * np.abs(across)[..., None] ** 2, opened)
    ring = np.hypot(np.abs(x) - look.eye_x, y + 0.01)
    picture = _mix(picture, look.iris, opened * _inside(ring - 0.46 * size, pixel))
    picture = _mix(picture, np.full(3, 0.03), opened * _inside(ring - 0.2 * size, pixel))
    shine = np.hypot(x - np.sign(x) * look.eye_x - 0.03, y + 0.045)
    picture = _mix(picture, np.full(3, 0.95), opened * _inside(shine - 0.018, pixel))
    lashes = np.maximum(np.abs(y - upper + 0.01) - 0.022, (np.abs(across) - 1.05) * size)
    picture = _mix(picture, np.full(3, 0.06), 0.85 * _inside(lashes, pixel))
    crease = np.maximum(np.abs(y - 1.5 * upper + 0.05) - 0.008, (np.abs(across) - 0.95) * size)
    return _mix(picture, look.skin * 0.45, 0.5 * _inside(crease, 2 * pixel))


def _brows(look: Look, plane: _Plane, picture: np.ndarray) -> np.ndarray:
    across = (np.abs(plane.x) - look.eye_x - 0.02) / 0.27
    middle = -0.27 - 0.05 * (1 - across**2) - look.brow_tilt * across
    thick = look.brow * np.clip(1 - 0.45 * across, 0.4, 1.2) * 0.5
    brow = np.maximum(np.abs(plane.y - middle) - thick, (np.abs(across) - 1) * 0.27)
    return _mix(picture, np.minimum(look.hair * 0.9, look.skin * 0.5), 0.85 * _inside(brow, 0.06))


def _behind(look: Look, plane: _Plane, rng: np.random.Generator) -> np.ndarray:
    """Wall, neck and shoulders: (S, S, 3) uint8."""
    x, y = plane.x, plane.y
    height = np.linspace(0, 1, len(y))[:, None, None]
    picture = look.wall[0] * (1 - height) + look.wall[1] * height + 0.05 * rng.uniform(-1, 1) * x[..., None]
    shapes = cv2.resize(rng.normal(0, 0.05, (4, 4, 1)), x.shape[::-1], interpolation=cv2.INTER_CUBIC)
    picture = picture + shapes[..., None]
    neck = np.abs(x) - 0.56 - 0.25 * np.clip(y - 1.6, 0, 1) ** 2
    throat = 0.62 + 0.3 * np.clip(y - 1.35, 0, 0.8) - 0.25 * x**2
    picture = _mix(picture, look.skin * throat[..., None], _inside(np.maximum(neck, 0.5 - y), 0.06))
    shoulders = 1.75 + 0.22 * np.abs(x) ** 1.5 + 0.25 * np.exp(-((x / 0.35) ** 2)) - y
    folds = 1 + 0.12 * np.sin(3 * x + rng.uniform(0, 6)) * np.sin(2 * y)
    picture = _mix(picture, look.cloth * folds[..., None], _inside(shoulders, 0.05))
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _window(plane: _Plane, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
    """Rows and columns of the canvas between these face units."""
    corners = np.array([(left, top), (right, bottom)]) * plane.scale + plane.centre
    (x0, y0), (x1, y1) = np.clip(np.round(corners).astype(int), 0, len(plane.x))
    return slice(y0, y1), slice(x0, x1)


class _Patches(NamedTuple):
    patches: np.ndarray  # (T, h, w, 4) uint8 premultiplied RGBA
    corner: tuple[slice, slice]  # where they lie on the canvas


def _mouths(look: Look, plane: _Plane, opening: np.ndarray, width: np.ndarray) -> _Patches:
    """Lips, teeth, tongue and the dark between them for every frame at once; opening and width (T,)."""
    corner = _window(plane, -0.62, MOUTH_Y - 0.3, 0.62, MOUTH_Y + 0.62)
    x, y = plane.x[corner][None], plane.y[corner][None]  # (1, h, w)
    opening, width = opening[:, None, None], width[:, None, None]
    soft = 2.0 / plane.scale
    half = look.lip_width * (1 + 0.2 * width - 0.08 * opening)
    across = np.abs(x) / half
    arch = np.maximum(0, 1 - across**2)
    gap = JAW_DROP * opening
    inner_top = MOUTH_Y - 0.18 * gap * arch
    inner_low = MOUTH_Y + 0.82 * gap * arch
    full = look.lip_full * (1 - 0.2 * width)
    top = inner_top - full * arch**0.6 * (1 - 0.3 * np.exp(-((x / 0.07) ** 2)))
    low = inner_low + 1.25 * full * arch**0.7
    within = _inside((across - 1) * half, soft)
    lips = _inside(top - y, soft) * _inside(y - low, soft) * within
    mouth = _inside(inner_top - y, soft) * _inside(y - inner_low, soft) * within * np.minimum(1, gap / 0.03)

    roundness = 1 - 0.22 * (y < inner_top) + 0.12 * np.exp(-(((y - inner_low - 0.6 * full) / 0.04) ** 2))
    seam = np.exp(-(((y - 0.5 * (inner_top + inner_low)) / 0.018) ** 2)) * (gap < 0.03) * 0.6
    colour = look.lips.astype(np.float32) * (roundness * (1 - seam))[..., None]  # (T, h, w, 3)
    dark = np.array([0.10, 0.03, 0.03], np.float32)
    inside = np.broadcast_to(dark, colour.shape)
    tongue = _inside(np.hypot(x / 0.24, (y - inner_low - 0.02) / (0.35 * gap + 1e-3)) - 1, 0.3) * (gap > 0.1)
    inside = _mix(inside, np.array([0.36, 0.13, 0.13], np.float32), 0.8 * tongue)
    teeth = _inside(y - inner_top - np.minimum(0.08, 0.4 * gap), soft) * _inside(across - 0.75, 0.1)
    inside = _mix(inside, np.array([0.82, 0.80, 0.74], np.float32), teeth)
    colour = _mix(colour, inside, mouth)
    alpha = lips.astype(np.float32)[..., None]
    patches = np.clip(np.concatenate([colour * alpha, alpha], -1), 0, 1) * 255 + 0.5
    return _Patches(patches.astype(np.uint8), corner)


def _jaw_drop(plane: _Plane) -> np.ndarray:
    """How many pixels each pixel of the canvas sinks when the mouth is wide open: (S, S) float32."""
    below = np.clip((plane.y - MOUTH_Y + 0.05) / 0.3, 0, 1) * np.exp(-((plane.x / 0.95) ** 4))
    below *= np.exp(-((np.maximum(plane.y - 1.45, 0) / 0.2) ** 2))  # hair below the chin stays
    return (0.5 * JAW_DROP * plane.scale * below).astype(np.float32)


def _lower_jaw(head: np.ndarray, plane: _Plane, drop: np.ndarray) -> np.ndarray:
    """The head with what lies below the mouth moved down by `drop` (S, S) pixels."""
    rows, columns = _window(plane, -1.15, MOUTH_Y - 0.1, 1.15, 1.95)
    y, x = np.mgrid[rows, columns].astype(np.float32)
    picture = head.copy()
    picture[rows, columns] = cv2.remap(head, x, y - drop[rows, columns], cv2.INTER_LINEAR)
    return picture


def _close_eyes(look: Look, plane: _Plane, head: np.ndarray) -> _Patches:
    """One patch of closed lids over both eyes, and as alpha how far down each pixel lies in the open eye: (1, h, w, 4)."""
    corner = _window(plane, -0.75, -0.16, 0.75, 0.14)
    across, upper, lower = (part[corner] for part in _lids(look, plane))
    y = plane.y[corner]
    depth = np.clip((y - upper) / np.maximum(lower - upper, 1e-3), 0, 1)
    lid = look.skin * (0.72 - 0.35 * np.exp(-(((y - lower) / 0.02) ** 2)))[..., None]
    inside = (np.abs(across) < 1) & (y > upper - 0.01) & (y < lower + 0.02)
    depth = np.where(inside, depth, 2.0)  # never reached
    return _Patches(np.dstack([lid * 255, depth])[None].astype(np.float32), corner)


def _blend_eyes(picture: np.ndarray, shut: _Patches, plane: _Plane, closed: float) -> None:
    """Draws the lids down by `closed` (0..1), in place."""
    if closed <= 0.02:
        return
    cover = np.clip((closed * 1.1 - shut.patches[0, ..., 3:]) * 6, 0, 1)
    eyes = picture[shut.corner][..., :3]
    eyes[:] = eyes + (shut.patches[0, ..., :3] - eyes) * cover


def _paste(picture: np.ndarray, patch: np.ndarray, corner: tuple[slice, slice]) -> None:
    """Lays a premultiplied patch (h, w, 4) uint8 over the head, in place, where the head is opaque."""
    below = picture[corner]
    below[..., :3] = patch[..., :3] + (
        below[..., :3].astype(np.uint16) * (255 - patch[..., 3:].astype(np.uint16)) // 255
    )


def _over(head: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Premultiplied head (S, S, 4) over the background (S, S, 3) -> (S, S, 3) uint8."""
    through = cv2.merge([255 - head[..., 3]] * 3)
    return cv2.add(head[..., :3], cv2.multiply(behind, through, scale=1 / 255))


def _blinks(frames: int, rng: np.random.Generator) -> np.ndarray:
    """How far the lids are down in each frame, (T,) 0..1: a blink of a fifth of a second every two to five."""
    closed = np.zeros(frames)
    at = rng.uniform(0.3, 3.0) * FPS
    while at < frames:
        closed = np.maximum(closed, 1.15 - np.abs(np.arange(frames) - at) / 2.6)
        at += rng.uniform(2.0, 5.0) * FPS
    return np.clip(closed, 0, 1)


def _sway(frames: int, size: int, pivot: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Slow head movement about the neck: (T, 2, 3) float32, canvas pixels -> frame pixels."""
    time = np.arange(frames) / FPS
    turn, aside, nod, near = (
        amount * (_wave(time, rng.uniform(0.1, 0.35), rng) + 0.4 * _wave(time, rng.uniform(0.4, 0.7), rng))
        for amount in (np.radians(1.6), 0.008 * size, 0.005 * size, 0.01)
    )
    cosine, sine = (1 + near) * np.cos(turn), (1 + near) * np.sin(turn)
    motion = np.empty((frames, 2, 3))
    motion[:, 0, :2] = np.stack([cosine, -sine], 1)
    motion[:, 1, :2] = np.stack([sine, cosine], 1)
    motion[:, :, 2] = pivot + np.stack([aside, nod], 1) - motion[:, :, :2] @ pivot
    return motion.astype(np.float32)


def _wave(time: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * (hertz * time + rng.random()))


def _landmarks(look: Look, poses: np.ndarray, width: np.ndarray) -> np.ndarray:
    corner = look.lip_width * (1 + 0.2 * width)  # (T,)
    fixed = np.array([[-look.eye_x, 0], [look.eye_x, 0], NOSE])
    points = np.tile(np.vstack([fixed, [[-1, MOUTH_Y], [1, MOUTH_Y]]]), (len(width), 1, 1))  # (T, 5, 2)
    points[:, 3:, 0] *= corner[:, None]
    return (points @ poses[:, :, :2].transpose(0, 2, 1) + poses[:, None, :, 2]).astype(np.float32)
