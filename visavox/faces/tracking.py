"""Faces of a video: find them on few frames, follow the main one through all, cut it out. One streaming pass.

    track = track_faces(video.frames(), detector, step=64, size=224, expected_frames=400)
    track.crops[:]  # (T, 224, 224, 3) uint8 RGB

Coordinates are continuous: pixel i covers [i, i + 1), so the box of a whole picture is 0, 0, width, height (x0, y0, x1,
y1). The five landmarks are left eye, right eye, nose, left and right mouth corner; left is the image's left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from visavox.faces.boxes import area, iou, match
from visavox.faces.crop_store import CropStore
from visavox.faces.cropping import crop_square, cut_square, to_crop
from visavox.faces.detection import Detections, FaceDetector

TRUST = 16  # frames: the longest stretch interpolated without a look into it; at 32 one of 36 clips is off too often
BRIDGE = 12  # frames: a face missed this long is the same face when it is found again
SMOOTH = 13  # frames: the moving average of SyncNet's and the seed's pipelines
SAME_FACE = 0.3  # IoU of one face on successive looked-at frames
SAME_STRETCH = 0.5  # IoU of one face at the two ends of a stretch that may be interpolated
AGREEMENT = 0.85  # IoU of a detection and the line between its neighbours; below it the path is bent there
PARTING = 0.382  # where a stretch is parted: the golden section, because halves resonate with a head that nods in time
MAX_TRACKS = 8  # faces followed at once
SHOT_CUT = 30.0  # grey levels between thumbnails that ask for a look; 36 clips without a cut stay below 20
SAME_PLACE = 0.7  # IoU of a face on both sides of no cut; neighbouring frames have 0.82 up, six cuts 0.55 at most
SAME_LOOK = 0.85  # correlation of its pictures; neighbouring frames have 0.87 up, 98 splices of faces 0.84 at most
LOOK = 12  # pixels: side of these pictures; at 24, where lips are seen to move, faces are told apart less well
MAIN = 0.5  # a face at least this share of the largest in area is searched for where it is lost
BATCH = 8  # frames per call of the detector
CHUNK_BYTES = 150 << 20  # frames settled together: 56 of 720p, 25 of 1080p, 6 of 4K
CHUNK = 64  # frames settled together where they fit
RAW_CROP_BYTES = 128 << 20  # a track expected to be larger than this is kept as JPEG


class Sighting(NamedTuple):
    """A face that was followed beside the main one, before it, or after it."""

    first: int
    """Frame number of its first detection."""
    last: int
    """Frame number of its last detection."""
    weight: float
    """Sum of sqrt(box area) over its frames, times its mean score."""


@dataclass(frozen=True)
class FaceTrack:
    """One face of a video on T consecutive frames, from the first to the last that shows it."""

    crops: CropStore
    """T crops (size, size, 3) uint8 RGB."""
    boxes: np.ndarray
    """(T, 4) float32 source pixels, smoothed."""
    landmarks: np.ndarray
    """(T, 5, 2) float32 crop pixels, smoothed."""
    det_score: np.ndarray
    """(T,) float32, NaN = interpolated."""
    frame_index: np.ndarray
    """(T,) int64, consecutive frame numbers of the video."""
    weight: float
    """Sum of sqrt(box area) over its frames, times its mean score."""
    frames_read: int
    """Frames of the video."""
    frames_detected: int
    """Of these, how many the detector saw."""
    others: tuple[Sighting, ...] = ()
    """The other faces that were followed in the video, the one with the most weight first."""
    cuts: tuple[int, ...] = ()
    """Frame numbers at which a new shot begins."""


def track_faces(
    frames: Iterable[np.ndarray],
    detector: FaceDetector,
    *,
    step: int,
    size: int,
    margin: float = 0.4,
    smooth: int = SMOOTH,
    trust: int = TRUST,
    expected_frames: int | None = None,
) -> FaceTrack | None:
    """Return the main face of frames (H, W, 3) uint8 RGB, or None where no face is found.

    The main face has the largest sum of sqrt(box area) over its frames, times its mean score; see `follow_faces`.
    """
    tracks = follow_faces(
        frames,
        detector,
        step=step,
        size=size,
        margin=margin,
        smooth=smooth,
        trust=trust,
        expected_frames=expected_frames,
    )
    return tracks[0] if tracks else None


def follow_faces(
    frames: Iterable[np.ndarray],
    detector: FaceDetector,
    *,
    step: int,
    size: int,
    margin: float = 0.4,
    smooth: int = SMOOTH,
    trust: int = TRUST,
    expected_frames: int | None = None,
    keep: int = 1,
) -> list[FaceTrack]:
    """Follow every face of frames (H, W, 3) uint8 RGB; return the `keep` with the most weight, the main one first.

    The detector sees every `step`-th frame, and frames between where interpolation cannot be trusted: in stretches
    longer than `trust`, where a face has no partner at the other end, and beside a frame where a face's path is bent.
    Boxes and landmarks are interpolated between these frames, never beyond them, and averaged over `smooth` frames
    (edges repeated).

    A face out of sight for more than BRIDGE frames ends its track. Before that, and where a track begins, a large face is
    searched for on each of the BRIDGE frames beyond, faint detections near its box included. A shot cut ends every
    track. Where thumbnails of neighbouring frames differ as across a cut, both frames are looked at: a face of the same
    place, size and look on both sides goes on, for there is no cut.

    At most CHUNK frames or CHUNK_BYTES are held, and BRIDGE + smooth // 2 + 2 frames of lag, whatever the length; a
    larger `step` than fits becomes what fits. `expected_frames` decides, before the first crop, whether crops are kept
    raw (up to RAW_CROP_BYTES a track) or as JPEG; None, a video of unknown length, means JPEG.
    """
    if step < 1 or size < 1 or smooth < 1 or smooth % 2 == 0 or keep < 1:
        raise ValueError(f"step={step}, size={size}, smooth={smooth} and keep={keep} must be positive, smooth odd")
    compress = expected_frames is None or expected_frames * size * size * 3 > RAW_CROP_BYTES
    follower = _Follower(detector, step, trust, keep, lambda: _Track(CropStore(size, compress), margin, smooth))
    for frame, may_be_cut in _suspected(frames):
        follower.add(frame, may_be_cut)
    return follower.finish()


def _suspected(frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield each frame with whether a new shot may begin with it; one frame of look-ahead.

    A cut may lie between t-1 and t where both t-2 and t-1 differ from both t and t+1: a photographer's flash, being
    over after one frame, is none.
    """
    frame: np.ndarray | None = None
    thumbnails: list[np.ndarray] = []
    for ahead in frames:
        rows = np.ascontiguousarray(ahead[:: max(1, len(ahead) // 144)])  # of more, a thumbnail shows no more
        thumbnail = cv2.resize(rows, (64, 36), interpolation=cv2.INTER_AREA).astype(np.float32)
        thumbnails = [*thumbnails[-3:], thumbnail]  # of t-2, t-1, t, t+1
        if frame is not None:
            yield frame, _differ(thumbnails[:-2], thumbnails[-2:])
        frame = ahead
    if frame is not None:
        yield frame, _differ(thumbnails[-3:-1], thumbnails[-1:])


def _differ(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    return bool(before) and all(np.abs(a - b).mean() > SHOT_CUT for a in before for b in after)


class _Follower:
    """Faces of a video: holds a chunk of frames, decides where to look, links what is found, cuts what is settled."""

    def __init__(self, detector: FaceDetector, step: int, trust: int, keep: int, new_track: Callable[[], _Track]):
        self.detector, self.step, self.trust, self.keep, self.new_track = detector, step, trust, keep, new_track
        self.stride = self.chunk = step  # frames; what fits is known with the first frame
        self.buffer: dict[int, np.ndarray] = {}
        self.found: dict[int, Detections] = {}
        self.live: list[_Track] = []
        self.kept: list[_Track] = []  # that have ended, the most weight first
        self.ended: list[Sighting] = []
        self.cuts: list[int] = []
        self.began = 0  # the first frame of this shot, as far as is known
        self.looked = 0
        self.next = 0  # the number of the frame to come
        self.settled = -1  # the last key frame whose detections are linked

    def add(self, frame: np.ndarray, may_be_cut: bool) -> None:
        """Take the next frame, (H, W, 3) uint8 RGB."""
        if may_be_cut and self.settled < self.next - 1:
            self._settle()
        self.buffer[self.next] = frame
        self.next += 1
        if may_be_cut or self.next == 1:
            room = min(CHUNK, max(1, CHUNK_BYTES // frame.nbytes))
            self.stride = min(self.step, room)
            self.chunk = room // self.stride * self.stride
        if may_be_cut:
            self._decide_cut()
        if self.next - 1 - self.settled >= self.chunk or self.next == 1 or may_be_cut:
            self._settle()

    def finish(self) -> list[FaceTrack]:
        """Return the faces with the most weight, their frames all cut."""
        if self.settled < self.next - 1:
            self._settle()
        self._end_shot()
        tracks = []
        for track in self.kept:
            others = sorted(self.ended, key=lambda other: -other.weight)
            others.remove(track.sighting)
            tracks.append(track.as_face_track(self.next, self.looked, tuple(others), tuple(self.cuts)))
        return tracks

    def _settle(self) -> None:
        """Everything up to the newest frame: look, link, cut, and let go of frames that no track needs."""
        last = self.next - 1
        keys = [*range(self.settled + self.stride, last, self.stride), last]
        self._look(keys)
        self._look_between([self.settled, *keys] if self.settled >= self.began else keys)
        for index in sorted(index for index in self.found if index > self.settled):
            self._link(index)
        for track in self.live:
            track.cut_settled(self.buffer)
        self.settled = last
        held = min([self.next - BRIDGE, *(track.uncut for track in self.live)])
        self.found = {index: found for index, found in self.found.items() if index >= self.next - 1 - BRIDGE}
        self.buffer = {index: frame for index, frame in self.buffer.items() if index >= held}

    def _decide_cut(self) -> None:
        """Whether the newest frame begins a shot. Where its main face goes on, it does not; else other faces end here."""
        index = self.next - 1
        self._search_on(self.live, index - 1)
        self._look([index])
        going_on = [track for track in self.live if self._goes_on(track, index)]
        if going_on and max(self.live, key=lambda track: track.weight) in going_on:
            return
        self._retire([track for track in self.live if track not in going_on])
        self.cuts.append(index)
        self.began = index

    def _goes_on(self, track: _Track, index: int) -> bool:
        """Whether frame `index` shows a track's face of the frame before at the same place, as large, and looking alike."""
        if track.last != index - 1:
            return False
        shown = self.found[index].joined()
        overlap = iou(track.last_box, shown.boxes)  # (N,)
        return any(
            looks_alike(self.buffer[index - 1], track.last_box, self.buffer[index], shown.boxes[j])
            for j in np.flatnonzero(overlap >= SAME_PLACE)
        )

    def _look(self, indices: Iterable[int]) -> None:
        indices = [index for index in indices if index not in self.found]
        for start in range(0, len(indices), BATCH):
            batch = indices[start : start + BATCH]
            self.found.update(zip(batch, self.detector.detect([self.buffer[index] for index in batch]), strict=True))
        self.looked += len(indices)

    def _look_between(self, looked: list[int]) -> None:
        """Part every stretch between looked-at frames that cannot be interpolated, until none is left."""
        while stretches := self._doubtful(looked):
            inner = [left + round(PARTING * (right - left)) for left, right in stretches]
            self._look(inner)
            looked = sorted([*looked, *inner])

    def _doubtful(self, looked: list[int]) -> list[tuple[int, int]]:
        """The stretches that are long, whose ends show different faces, or that end where a face's path is bent."""
        bent = {at for left, at, right in zip(looked, looked[1:], looked[2:]) if self._is_bent(left, at, right)}
        return [
            (left, right)
            for left, right in pairwise(looked)
            if right - left > 1
            and (right - left > self.trust or bent & {left, right} or not self._same_faces(left, right))
        ]

    def _same_faces(self, left: int, right: int) -> bool:
        a, b = self.found[left].boxes, self.found[right].boxes
        return len(match(a, b, SAME_STRETCH)) == len(a) == len(b)

    def _is_bent(self, left: int, at: int, right: int) -> bool:
        """Whether a face lies elsewhere on frame `at` than on the straight line from `left` to `right`."""
        a, seen, b = (self.found[index].boxes for index in (left, at, right))
        before, after = dict(match(seen, a, SAME_FACE)), dict(match(seen, b, SAME_FACE))
        weight = (at - left) / (right - left)
        return any(
            iou((1 - weight) * a[before[i]] + weight * b[after[i]], seen[i]) < AGREEMENT
            for i in before.keys() & after.keys()
        )

    def _link(self, index: int) -> None:
        """Frame `index`'s detections continue tracks or begin new ones; tracks out of sight for too long end."""
        boxes, scores, landmarks, _ = self.found[index]
        pairs = self._pairs(index)
        lost = set(range(len(self.live))) - pairs.keys()
        if len(pairs) < len(boxes) or any(index - self.live[i].last > BRIDGE for i in lost):
            self._search_on([self.live[i] for i in lost], index - 1)
            pairs = self._pairs(index)
        for i, j in pairs.items():
            self.live[i].extend(index, boxes[j], scores[j], landmarks[j])
        self._retire([track for track in self.live if index - track.last > BRIDGE])
        new = sorted(set(range(len(boxes))) - set(pairs.values()), key=lambda j: -area(boxes[j]) * scores[j] ** 2)
        for j in new[: MAX_TRACKS - len(self.live)]:
            track = self.new_track()
            track.extend(index, boxes[j], scores[j], landmarks[j])
            self.live.append(track)
            self._search_back(track)

    def _pairs(self, index: int) -> dict[int, int]:
        """Which live track has which detection of frame `index`."""
        last = np.reshape([track.last_box for track in self.live], (-1, 4))
        return dict(match(last, self.found[index].boxes, SAME_FACE))

    def _search_on(self, tracks: list[_Track], until: int) -> None:
        """Look on each frame after the last detection of large faces, as long as they are found, up to frame `until`."""
        for track in filter(self._is_large, tracks):
            index: int | None = track.last
            while index is not None and index < until:
                index = self._search(track, range(index + 1, min(index + BRIDGE, until) + 1))

    def _search_back(self, track: _Track) -> None:
        """Look on each frame before the first detection of a large face, as long as it is found, in this shot."""
        index = track.first if self._is_large(track) else None
        while index is not None:
            index = self._search(track, range(index - 1, max(self.began, index - BRIDGE, min(self.buffer)) - 1, -1))

    def _search(self, track: _Track, indices: range) -> int | None:
        """Extend a track by the first of these frames that shows its face; return the frame."""
        self._look(indices)
        for index in indices:
            shown, certain = self.found[index].joined(), len(self.found[index].boxes)
            overlap = iou(track.nearest_box(index), shown.boxes)  # (N,)
            overlap[certain:][overlap[certain:] < SAME_STRETCH] = 0  # what is faint must be nearer
            for other in self.live:
                if other is not track and other.first <= index <= other.last:
                    overlap[iou(other.nearest_box(index), shown.boxes) > overlap] = 0
            if len(overlap) and overlap.max() >= SAME_FACE:
                best = overlap.argmax()
                track.extend(index, shown.boxes[best], shown.scores[best], shown.landmarks[best])
                return index
        return None

    def _is_large(self, track: _Track) -> bool:
        return bool(area(track.last_box) >= MAIN * max(area(other.last_box) for other in self.live))

    def _end_shot(self) -> None:
        self._search_on(self.live, self.next - 1)
        self._retire(self.live)

    def _retire(self, tracks: list[_Track]) -> None:
        for track in tracks:
            track.cut_settled(self.buffer, ended=True)
            self.ended.append(track.sighting)
            self.kept = sorted([*self.kept, track], key=lambda kept: -kept.weight)[: self.keep]  # the earlier of equals
        self.live = [track for track in self.live if track not in tracks]


@dataclass(eq=False)
class _Track:
    """One face: 14 numbers a frame (box, landmarks) from its first to its last detection, and the crops made so far."""

    crops: CropStore
    margin: float
    smooth: int
    first: int = -1
    rows: list[np.ndarray] = field(default_factory=list)  # (14,) float64 source pixels, not smoothed
    smoothed: list[np.ndarray] = field(default_factory=list)  # (14,) float64, one per crop
    scores: list[float] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1

    @property
    def uncut(self) -> int:
        return self.first + len(self.crops)

    @property
    def last_box(self) -> np.ndarray:
        return self.rows[-1][:4]

    @property
    def weight(self) -> float:
        return float(np.sqrt([area(row) for row in self.rows]).sum() * np.nanmean(self.scores))

    @property
    def sighting(self) -> Sighting:
        return Sighting(self.first, self.last, self.weight)

    def nearest_box(self, index: int) -> np.ndarray:
        """Its box (4,) on frame `index`, or the one nearest in time."""
        return self.rows[min(max(index - self.first, 0), len(self.rows) - 1)][:4]

    def extend(self, index: int, box: np.ndarray, score: float, landmarks: np.ndarray) -> None:
        """Add a detection on a frame after all others, or before all; the frames between are interpolated."""
        row = np.concatenate([box, landmarks.ravel()]).astype(np.float64)  # (14,)
        if not self.rows:
            self.first, self.rows, self.scores = index, [row], [float(score)]
        elif index > self.last:
            gap = index - self.last
            self.rows += [*_between(self.rows[-1], row, gap), row]
            self.scores += [*[np.nan] * (gap - 1), float(score)]
        else:
            assert index < self.first and not len(self.crops)
            gap = self.first - index
            self.rows[:0] = [row, *_between(row, self.rows[0], gap)]
            self.scores[:0] = [float(score), *[np.nan] * (gap - 1)]
            self.first = index

    def cut_settled(self, buffer: dict[int, np.ndarray], ended: bool = False) -> None:
        """Cuts the frames whose smoothing window is known: all but the last smooth // 2; all once the face is gone."""
        half = self.smooth // 2
        start, stop = len(self.crops), len(self.rows) - (0 if ended else half)
        if stop <= start:
            return
        around = np.clip(np.arange(start - half, stop + half), 0, len(self.rows) - 1)
        rows = np.stack([self.rows[i] for i in around])
        windows = np.lib.stride_tricks.sliding_window_view(rows, self.smooth, axis=0)
        for i, row in enumerate(windows.mean(-1), start):  # (stop - start, 14, smooth) -> (stop - start, 14)
            self.smoothed.append(row)
            self.crops.append(cut_square(buffer[self.first + i], crop_square(row[:4], self.margin), self.crops.size))

    def as_face_track(
        self, frames_read: int, frames_detected: int, others: tuple[Sighting, ...], cuts: tuple[int, ...]
    ) -> FaceTrack:
        smoothed = np.stack(self.smoothed)  # (T, 14)
        boxes, landmarks = smoothed[:, :4], smoothed[:, 4:].reshape(-1, 5, 2)
        return FaceTrack(
            crops=self.crops,
            boxes=boxes.astype(np.float32),
            landmarks=to_crop(landmarks, boxes, self.crops.size, self.margin).astype(np.float32),
            det_score=np.array(self.scores, np.float32),
            frame_index=np.arange(self.first, self.last + 1),
            weight=self.weight,
            frames_read=frames_read,
            frames_detected=frames_detected,
            others=others,
            cuts=cuts,
        )


def _between(left: np.ndarray, right: np.ndarray, gap: int) -> list[np.ndarray]:
    """The rows of the frames between two that lie `gap` frames apart."""
    return [left + (right - left) * (k / gap) for k in range(1, gap)]


def looks_alike(before: np.ndarray, box: np.ndarray, after: np.ndarray, other: np.ndarray) -> bool:
    """Return whether box (4,) of frame `before` shows what box `other` (4,) of frame `after` does; (H, W, 3) uint8 RGB.

    Both are shrunk to LOOK x LOOK pixels and correlated, so that brightness and contrast cancel. A picture without any
    contrast is like none.
    """
    a, b = _picture(before, box), _picture(after, other)
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    return bool(scale > 0 and np.sum(a * b) / scale >= SAME_LOOK)


def _picture(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """What a box shows, less its mean, (LOOK, LOOK, 3) float32."""
    height, width = frame.shape[:2]
    left, top = np.clip(np.floor(box[:2]), 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(np.ceil(box[2:]), [left + 1, top + 1], [width, height]).astype(int)
    small = cv2.resize(frame[top:bottom, left:right], (LOOK, LOOK), interpolation=cv2.INTER_AREA)
    return small - small.mean(dtype=np.float32)
