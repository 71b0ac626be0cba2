"""Three synthetic clips to try a detector on: genuine, forged throughout, and forged for two seconds only."""

from pathlib import Path

import numpy as np

IDENTITY, SEED, SECONDS, SIZE = 900_001, 7, 7.0, 256
FORGED = (3.0, 5.0)
"""Seconds of the third clip that are forged."""
NAMES = {
    "genuine.mp4": "Genuine",
    "forged_face.mp4": "Forged face, true voice",
    "forged_3_to_5.mp4": "Face and voice forged from 3 to 5 s",
}


def make_samples(folder: Path) -> dict[str, Path]:
    """Write the clips that are not there yet; file name -> path."""
    from visavox.media import write_video
    from visavox.synthetic.clips import render
    from visavox.synthetic.face import FPS
    from visavox.synthetic.fakes import forge
    from visavox.synthetic.voice import RATE

    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in NAMES}
    if all(path.is_file() for path in paths.values()):
        return paths
    true = render(IDENTITY, SEED, SECONDS, SIZE)
    face = forge("face_blended", IDENTITY, SEED, SECONDS, SIZE).clip
    voice = forge("voice_vocoded", IDENTITY, SEED, SECONDS, SIZE).clip
    start, end = FORGED
    frames, audio = true.frames.copy(), true.audio.copy()
    frames[round(start * FPS) : round(end * FPS)] = face.frames[round(start * FPS) : round(end * FPS)]
    audio[round(start * RATE) : round(end * RATE)] = voice.audio[round(start * RATE) : round(end * RATE)]
    contents: list[tuple[np.ndarray, np.ndarray]] = [
        (true.frames, true.audio),
        (face.frames, face.audio),
        (frames, audio),
    ]
    for path, (shown, sound) in zip(paths.values(), contents):
        write_video(path, shown, sound, fps=FPS, sample_rate=RATE)
    return paths
