"""What is lost by detecting faces in smaller pictures and on fewer frames?

    python -m benchmarks.recall --input VIDEOS
    python -m benchmarks.recall --input VIDEOS --sizes 320 640 --steps 16 64 --every 8 face_detector=retinaface_mobilenet0.25

For every size and step: the share of frames on which the track has a face, among those where the detector finds one at full size,
the mean IoU of the two there, the share of videos without any track, and the detector's and the whole track's seconds per
video. The reference looks at every n-th frame of each video.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visavox import config as configuration
from visavox import media
from visavox.config import Config
from visavox.faces import FaceDetector, FaceTrack, track_faces
from visavox.faces.boxes import iou
from visavox.files import find_inputs
from visavox.preprocessing import tools

FULL = 4096  # pixels: no picture is shrunk


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 480, 640])
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 16, 64])
    parser.add_argument("--every", type=int, default=8, help="frames between two looks of the reference (default 8)")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(argv)
    words = ["sync=off", *arguments.overrides]
    videos = list(find_inputs(arguments.input).values())
    full = tools.build(configuration.load(None, [*words, f"face_max_size={FULL}"])).faces
    config = configuration.load(None, words)
    truths = [reference(video, full, config, arguments.every) for video in videos]
    print(f"{len(videos)} videos, {sum(map(len, truths))} frames with a face at full size by {full.name}")
    print(f"{'size':>5} {'step':>5} {'found':>7} {'IoU':>6} {'none':>5} {'seen':>6} {'s/video':>8}")
    for size in arguments.sizes:
        faces = tools.build(configuration.load(None, [*words, f"face_max_size={size}"])).faces
        for step in arguments.steps:
            began = time.process_time()
            tracks = [follow(video, faces, config, step) for video in videos]
            seconds = (time.process_time() - began) / len(videos)
            overlaps = np.concatenate([overlap(track, truth) for track, truth in zip(tracks, truths)])
            found = overlaps >= 0
            lost = sum(track is None for track in tracks)
            seen = np.mean([track.frames_detected / track.frames_read for track in tracks if track])
            mean = overlaps[found].mean()
            print(
                f"{size:5d} {step:5d} {found.mean():7.1%} {mean:6.3f} {lost:5d} {seen:6.1%} {seconds:8.2f}", flush=True
            )
    return 0


def reference(video: Path, faces: FaceDetector, config: Config, every: int) -> dict[int, np.ndarray]:
    """Frame number -> boxes (n, 4), n > 0, that the detector finds at full size on every n-th frame."""
    found = {}
    with media.open_video(video, max_seconds=config.max_clip_len) as opened:
        for index, frame in enumerate(opened.frames()):
            if index % every == 0 and len(boxes := faces.detect([frame])[0].boxes):
                found[index] = boxes
    return found


def follow(video: Path, faces: FaceDetector, config: Config, step: int) -> FaceTrack | None:
    with media.open_video(video, max_seconds=config.max_clip_len) as opened:
        expected = round(config.max_clip_len * configuration.SYNC_FPS)
        return track_faces(
            opened.frames(),
            faces,
            step=step,
            size=config.frame_size,
            margin=config.face_margin,
            expected_frames=expected,
        )


def overlap(track: FaceTrack | None, truth: dict[int, np.ndarray]) -> np.ndarray:
    """For each frame of the reference the IoU of the track's box with the nearest one, -1 where there is no track."""
    values = []
    for index, boxes in truth.items():
        t = -1 if track is None else index - track.frame_index[0]
        inside = track is not None and 0 <= t < len(track.boxes)
        values.append(iou(track.boxes[t : t + 1], boxes).max() if inside else -1.0)
    return np.array(values)


if __name__ == "__main__":
    sys.exit(main())
