"""How far are followed faces from faces detected on every frame?

    python -m benchmarks.face_tracks --input VIDEOS
    python -m benchmarks.face_tracks --input VIDEOS --every 8 face_detector=haar face_max_size=480

Prints per video: frames of the track, share of frames the detector saw, and the share of frames on which the box of the track
meets the box detected on that frame at an IoU of 0.8 or more, with the mean IoU.
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
    print(f"{'video':40} {'read':>5} {'track':>5} {'seen':>6} {'IoU>=.8':>8} {'mean':>6}")
    worst = 1.0
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
            worst = 0.0
            continue
        agreements = compare(path, track, faces, config.max_clip_len, arguments.every)
        share = float(np.mean(agreements >= 0.8))
        worst = min(worst, share)
        seen = track.frames_detected / track.frames_read
        print(
            f"{name:40} {track.frames_read:5d} {len(track.boxes):5d} {seen:6.1%} {share:8.1%} {agreements.mean():6.3f}"
        )
    print(f"lowest share: {worst:.1%}")
    return 0


def compare(path: Path, track, faces, seconds: float, every: int) -> np.ndarray:
    """IoU of the track's boxes with the nearest box detected on the same frame; frames without a detection are left out."""
    agreements = []
    with media.open_video(path, max_seconds=seconds) as video:
        for index, frame in enumerate(video.frames()):
            t = index - track.frame_index[0]
            if index % every or not 0 <= t < len(track.boxes):
                continue
            found = faces.detect([frame])[0].boxes
            if len(found):
                agreements.append(iou(track.boxes[t : t + 1], found).max())
    return np.array(agreements)


if __name__ == "__main__":
    sys.exit(main())
