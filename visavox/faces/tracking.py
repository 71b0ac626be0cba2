"""Faces of a video: find them on few frames, follow the main one through all, cut it out. One streaming pass.

    track = track_faces(video.frames(), detector, step=64, size=224, expected_frames=400)
    track.crops[:]  # (T, 224, 224, 3) uint8 RGB

Coordinates are continuous: pixel i covers [i, i + 1), so the box of a whole picture is 0, 0, width, height (x0, y0, x1,
y1). The five landmarks are left eye, right eye, nose, left and right mouth corner; left is the image's left.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np

from visavox.faces.boxes import _area, iou, match
from visavox.faces.crop_store import CropStore
from visavox.faces.cropping import _cut_one, crop_square, to_crop
from visavox.faces.detection import Detections, FaceDetector

TRUST = 16  # frames: the longest stretch interpolated without a look into it; at 32 one of 36 clips is off too often
BRIDGE = 12  # frames: a face missed this long is the same face when it is found again
SMOOTH = 13  # frames: the moving average of SyncNet's and the seed's pipelines
SAME_FACE = 0.3  # IoU of one face on successive looked-at frames
SAME_STRETCH = 0.5  # IoU of one face at the two ends of a stretch that may be interpolated
AGREEMENT = 0.85  # IoU of a detection and the line between its neighbours; below it the path is bent there
PARTING = 0.382  # where a stretch is parted: the golden section, because halves resonate with a head that nods in time
MAX_TRACKS = 8  # faces followed at once
SHOT_CUT = 30.0  # grey levels between thumbnails; 36 clips without a cut stay below 20, two clips differ by 41 up
BATCH = 8  # frames per call of the detector
CHUNK_BYTES = 150 << 20  # frames settled together: 56 of 720p, 25 of 1080p, 6 of 4K
CHUNK = 64  # frames settled together where they fit
RAW_CROP_BYTES = 128 << 20  # a track expected to be larger than this is kept as JPEG


@dataclass(frozen=True)
class FaceTrack:
    """The main face of a video on T consecutive frames, from the first to the last that shows it."""

    crops: "CropStore"  # T crops (size, size, 3) uint8 RGB
    boxes: np.ndarray  # (T, 4) float32 source pixels, smoothed
    landmarks: np.ndarray  # (T, 5, 2) float32 crop pixels, smoothed
    det_score: np.ndarray  # (T,) float32, NaN = interpolated
    frame_index: np.ndarray  # (T,) int64, consecutive frame numbers of the video
    frames_read: int  # frames of the video
    frames_detected: int  # of these, how many the detector saw


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
    """The main face of frames (H, W, 3) uint8 RGB, or None where no face is found.

    The detector sees every `step`-th frame, and frames between where interpolation cannot be trusted: in stretches
    longer than `trust`, where a face has no partner at the other end, and beside a frame where a face's path is bent.
    Boxes and landmarks are interpolated between these frames, never beyond them, and averaged over `smooth` frames
    (edges repeated). A face out of sight for more than BRIDGE frames ends its track, a shot cut ends all. The main
    track has the largest sum of sqrt(box area) over its frames, times its mean score.

    At most CHUNK frames or CHUNK_BYTES are held, and BRIDGE + smooth // 2 + 2 frames of lag, whatever the length; a
    larger `step` than fits becomes what fits. `expected_frames` decides, before the first crop, whether crops are kept
    raw (up to RAW_CROP_BYTES a track) or as JPEG; None, a video of unknown length, means JPEG.
    """
    if step < 1 or size < 1 or smooth < 1 or smooth % 2 == 0:
        raise ValueError(f"step={step}, size={size} and smooth={smooth} must be positive, smooth odd")
    compress = expected_frames is None or expected_frames * size * size * 3 > RAW_CROP_BYTES
    shot = None
    best: _Track | None = None
    read = looked = 0
    for index, (frame, is_cut) in enumerate(_shots(frames)):
        if shot is None or is_cut:
            if shot is not None:
                best = _better(best, shot.finish())
                looked += shot.looked
            room = min(CHUNK, max(1, CHUNK_BYTES // frame.nbytes))
            shot = _Shot(detector, index, step, trust, room, lambda: _Track(CropStore(size, compress), margin, smooth))
        shot.add(frame)
        read += 1
    if shot is None:
        return None
    best = _better(best, shot.finish())
    return None if best is None else best.as_face_track(read, looked + shot.looked)


def _shots(frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    """Each frame with whether it begins a new shot; one frame of look-ahead.

    A cut lies between t-1 and t where both t-2 and t-1 differ from both t and t+1: a photographer's flash, being over
    after one frame, is none.
    """
    frame, thumbnails = None, []
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


class _Shot:
    """Faces of one shot: holds a chunk of frames, decides where to look, links what is found, cuts what is settled."""

    def __init__(
        self, detector: FaceDetector, first: int, step: int, trust: int, room: int, new_track: "Callable[[], _Track]"
    ):
        self.detector, self.trust, self.new_track = detector, trust, new_track
        self.stride = min(step, room)
        self.chunk = room // self.stride * self.stride  # frames
        self.buffer: dict[int, np.ndarray] = {}
        self.found: dict[int, Detections] = {}
        self.live: list[_Track] = []
        self.best: _Track | None = None
        self.looked = 0
        self.next = first  # the number of the frame to come
        self.settled = first - 1  # the last key frame whose detections are linked

    def add(self, frame: np.ndarray) -> None:
        self.buffer[self.next] = frame
        self.next += 1
        if self.next - 1 - self.settled >= self.chunk or not self.found:
            self._settle()

    def finish(self) -> "_Track | None":
        """The main track of the shot, its frames all cut."""
        if self.settled < self.next - 1:
            self._settle()
        self._retire(self.live)
        return self.best

    def _settle(self) -> None:
        """Everything up to the newest frame: look, link, cut, and let go of frames that no track needs."""
        last = self.next - 1
        keys = [*range(self.settled + self.stride, last, self.stride), last]
        self._look(keys)
        self._look_between([self.settled, *keys] if self.settled in self.found else keys)
        for index in sorted(index for index in self.found if index > self.settled):
            self._link(index)
        for track in self.live:
            track.cut_settled(self.buffer)
        self.settled = last
        self.found = {last: self.found[last]}
        oldest = min((track.uncut for track in self.live), default=self.next)
        self.buffer = {index: frame for index, frame in self.buffer.items() if index >= oldest}

    def _look(self, indices: list[int]) -> None:
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
        boxes, scores, landmarks = self.found[index]
        pairs = match(np.reshape([track.last_box for track in self.live], (-1, 4)), boxes, SAME_FACE)
        for i, j in pairs:
            self.live[i].extend(index, boxes[j], scores[j], landmarks[j])
        self._retire([track for track in self.live if index - track.last > BRIDGE])
        new = sorted(set(range(len(boxes))) - {j for _, j in pairs}, key=lambda j: -_area(boxes[j]) * scores[j] ** 2)
        for j in new[: MAX_TRACKS - len(self.live)]:
            track = self.new_track()
            track.extend(index, boxes[j], scores[j], landmarks[j])
            self.live.append(track)

    def _retire(self, tracks: "list[_Track]") -> None:
        for track in tracks:
            track.cut_settled(self.buffer, ended=True)
            self.best = _better(self.best, track)
        self.live = [track for track in self.live if track not in tracks]


@dataclass(eq=False)
class _Track:
    """One face: 14 numbers a frame (box, landmarks) from its first to its last detection, and the crops made so far."""

    crops: "CropStore"
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
        return float(np.sqrt([_area(row) for row in self.rows]).sum() * np.nanmean(self.scores))

    def extend(self, index: int, box: np.ndarray, score: float, landmarks: np.ndarray) -> None:
        """A detection on frame `index`; the frames since the last one are interpolated."""
        row = np.concatenate([box, landmarks.ravel()]).astype(np.float64)  # (14,)
        if not self.rows:
            self.first = index
        else:
            begin, gap = self.rows[-1], index - self.last
            self.rows += [begin + (row - begin) * (k / gap) for k in range(1, gap)]
            self.scores += [np.nan] * (gap - 1)
        self.rows.append(row)
        self.scores.append(float(score))

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
            self.crops.append(_cut_one(buffer[self.first + i], crop_square(row[:4], self.margin), self.crops.size))

    def as_face_track(self, frames_read: int, frames_detected: int) -> FaceTrack:
        smoothed = np.stack(self.smoothed)  # (T, 14)
        boxes, landmarks = smoothed[:, :4], smoothed[:, 4:].reshape(-1, 5, 2)
        return FaceTrack(
            crops=self.crops,
            boxes=boxes.astype(np.float32),
            landmarks=to_crop(landmarks, boxes, self.crops.size, self.margin).astype(np.float32),
            det_score=np.array(self.scores, np.float32),
            frame_index=np.arange(self.first, self.last + 1),
            frames_read=frames_read,
            frames_detected=frames_detected,
        )


def _better(a: _Track | None, b: _Track | None) -> _Track | None:
    """The one with more weight; the earlier where they are equal."""
    if a is None or b is None:
        return a or b
    return b if b.weight > a.weight else a
