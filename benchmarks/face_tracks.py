"""How far are followed faces from faces detected on every frame?

    python -m benchmarks.face_tracks --input VIDEOS
    python -m benchmarks.face_tracks --input VIDEOS --every 8 face_detector=haar face_max_size=480

Prints per video: frames of the track, share of frames the detector saw, share of the frames with a face that the track covers,
and the share of its frames on which the box of the track meets the box detected on that frame at an IoU of 0.8 or more, with
the mean IoU.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visavox import config as configuration
from visavox import media
from visavox.faces import track_faces
from visavox.faces.boxes import iou
from visavox.files import find_inputs
from visavox.preprocessing import tools


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="compare on every n-th frame (default 1)")
    parser.add_argument("--config", type=Path, default=Path("config.json"))
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(argv)
    config = configuration.load(arguments.config, ["sync=off", *arguments.overrides])
    tools.check_weights(config)
    faces = tools.build(config).faces
    print(f"{faces.name}, face_detection_step={config.face_detection_step}")
    print(f"{'video':40} {'read':>5} {'track':>5} {'seen':>6} {'covers':>7} {'IoU>=.8':>8} {'mean':>6}")
    worst = lowest = 1.0
    for name, path in find_inputs(arguments.input).items():
        with media.open_video(path, max_seconds=config.max_clip_len) as video:
            expected = round(config.max_clip_len * configuration.SYNC_FPS)
            track = track_faces(
                video.frames(),
                faces,
                step=config.face_detection_step,
                size=config.frame_size,
                margin=config.face_margin,
                expected_frames=expected,
            )
        if track is None:
            print(f"{name:40} no face")
            worst = lowest = 0.0
            continue
        agreements, covered = compare(path, track, faces, config.max_clip_len, arguments.every)
        share = float(np.mean(agreements >= 0.8))
        worst, lowest = min(worst, share), min(lowest, covered)
        seen = track.frames_detected / track.frames_read
        shares = f"{seen:6.1%} {covered:7.1%} {share:8.1%}"
        print(f"{name:40} {track.frames_read:5d} {len(track.boxes):5d} {shares} {agreements.mean():6.3f}")
    print(f"lowest share: {worst:.1%}; of the frames with a face: {lowest:.1%}")
    return 0


def compare(path: Path, track, faces, seconds: float, every: int) -> tuple[np.ndarray, float]:
    """Compare a track with the faces detected on every n-th frame.

    Returns:
        IoU of the track's box with the nearest detected one, for each such frame that has both; share of those with a face that
        the track covers.
    """
    agreements, shown = [], 0
    with media.open_video(path, max_seconds=seconds) as video:
        for index, frame in enumerate(video.frames()):
            if index % every or not len(found := faces.detect([frame])[0].boxes):
                continue
            shown += 1
            t = index - track.frame_index[0]
            if 0 <= t < len(track.boxes):
                agreements.append(iou(track.boxes[t : t + 1], found).max())
    return np.array(agreements), len(agreements) / max(1, shown)


if __name__ == "__main__":
    sys.exit(main())
