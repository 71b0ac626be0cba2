"""Videos with the sound that lies beside them: ROOT/**/video/STEM.mp4 and ROOT/**/audio/STEM.wav, as 2D3MF lays its corpora out.

    visavox join-audio --root 2D3MF_Dataset --output joined
    visavox crop --config td3mf --input joined/FakeAVCeleb --output data/bundles/FakeAVCeleb
    visavox corpora unified --root joined/FakeAVCeleb --bundles data/bundles/FakeAVCeleb --output data/fakeavceleb.csv

OUTPUT is laid out as ROOT is. A video that has sound keeps it; with --prefer wav it is given that of the file. One without is
given the file's: of its own STEM, else without -0 or -1 at the end, else of the part before `_` (FaceForensics++: a fake keeps
the sound of the video whose face was replaced). The picture is copied packet by packet, sound is cut where it ends. Videos
that have neither sound nor a file are copied as they are, and counted; what is in OUTPUT already is kept.
Exit codes: 0 done; 1 some videos could not be read; 2 wrong arguments; 4 another run writes to OUTPUT; 5 the disk is full; 130
interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visavox import runs
from visavox.files import find_inputs, replacing, shown, sweep
from visavox.logs import complain, say
from visavox.progress import progress

if TYPE_CHECKING:
    import numpy as np

MOST = 4 * 3600.0
"""Seconds of sound that are read of a file whose video does not say how long it is."""


def main(argv: Sequence[str] | None = None) -> int:
    words = _parse(argv)
    from visavox.media import MediaError

    done: Counter[str] = Counter()
    lost = []
    try:
        videos = {name: path for name, path in find_inputs(words.root).items() if path.parent.name == "video"}
        if not videos:
            raise FileNotFoundError(f"{words.root}: holds no folder video/ with videos")
        words.output.mkdir(parents=True, exist_ok=True)
        with runs.stoppable(), runs.holding(words.output), progress("sound", len(videos)) as advance:
            sweep(words.output)
            for name, path in videos.items():
                try:
                    done[join(path, words.output / name, prefer=words.prefer)] += 1
                except (MediaError, ValueError) as error:
                    lost.append(f"{name}: {error}")
                advance()
    except KeyboardInterrupt as stop:
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox join-audio", error)
        return runs.exit_code(error)
    for reason in lost:
        say(f"  failed {shown(reason)}", error=True)
    said = ", ".join(f"{count} {what}" for what, count in sorted(done.items()))
    say(f"{len(videos)} videos: {said or 'none done'}, {len(lost)} failed; {words.output}")
    return int(bool(lost))


def join(video: Path, output: Path, *, prefer: str = "video") -> str:
    """Write a video with its sound; return what was done: `joined`, `with their own sound`, `without sound` or `kept`.

    Args:
        prefer: `video` leaves a video its own sound, `wav` gives it that of the file where there is one.

    Raises:
        MediaError: the video cannot be read.
        ValueError: the file of sound cannot be read.
    """
    from visavox.media import probe
    from visavox.media.mux import copy_with_sound

    if output.is_file():
        return "kept"
    found = probe(video)
    wav = next((path for path in wavs(video) if path.is_file()), None)
    output.parent.mkdir(parents=True, exist_ok=True)
    if wav is not None and (prefer == "wav" or found.audio_codec is None):
        sound, rate = read_wav(wav, found.duration or MOST)
        copy_with_sound(video, output, sound, rate)
        return "joined"
    with replacing(output) as beside:
        shutil.copyfile(video, beside)
    return "with their own sound" if found.audio_codec is not None else "without sound"


def wavs(video: Path) -> Iterator[Path]:
    """Yield where the sound of .../video/STEM.mp4 may lie, nearest first."""
    stem, folder = video.stem, video.parent.parent / "audio"
    bare = stem[:-2] if stem.endswith(("-0", "-1")) else stem
    for name in dict.fromkeys((stem, bare, bare.split("_")[0])):
        yield folder / f"{name}.wav"


def read_wav(path: Path, seconds: float) -> tuple[np.ndarray, int]:
    """Return the first seconds of a file: (N,) int16, the mean of its channels, and its rate, which AAC can hold.

    Raises:
        ValueError: no sound file.
    """
    import numpy as np
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            sound = file.read(round(seconds * rate), dtype="float32", always_2d=True).mean(axis=1)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path.name} is no sound file ({error})") from None
    if rate not in RATES:
        import librosa

        sound, rate = librosa.resample(sound, orig_sr=rate, target_sr=RATES[-1]), RATES[-1]
    return (np.clip(sound, -1, 1) * 32767).round().astype(np.int16), rate


RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Samples a second that AAC can hold (ISO 14496-3, table 1.16), up to 48 kHz; other sound is resampled to the last."""


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox join-audio", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="a folder with video/ and audio/ in it")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the same videos with sound")
    parser.add_argument(
        "--prefer", choices=("video", "wav"), default="video", help="whose sound is taken where both have one"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
