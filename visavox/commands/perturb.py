"""Write videos as they are after a perturbation: to look at, to listen to, or for another detector.

    visavox perturb --input VIDEOS --output PERTURBED --kinds blur,aac --levels 1,3,5
    visavox perturb --list

Writes OUTPUT/KIND-LEVEL/NAME.mp4 at 25 frames a second, encoded once more (H.264 at CRF 10, AAC) unless --lossless asks for
Matroska with neither; and OUTPUT/effects.csv: PSNR of the picture, distance of log-mel spectra and SNR of the sound, lag.
`visavox eval --robustness` needs none of this: it perturbs on the way and keeps bundles.
Exit codes: 0 done; 1 some videos could not be read; 2 wrong arguments or files; 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visavox.files import VIDEO_SUFFIXES, find_inputs, replacing, shown
from visavox.logs import complain, say

if TYPE_CHECKING:
    from visavox.robustness.measure import Effect
    from visavox.robustness.perturbing import Recipe

CRF = 10
SECONDS = 16.0


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        from visavox import media
        from visavox.progress import progress
        from visavox.robustness.kinds import KINDS, chosen, levels_of
        from visavox.robustness.perturbing import Recipe

        if arguments.list:
            say("\n".join(_listed(kind.name, kind.group, kind.unit, kind.levels) for kind in KINDS.values()))
            return 0
        inputs = find_inputs(arguments.input, VIDEO_SUFFIXES)
        recipes = [
            Recipe(kind.name, level, arguments.seed)
            for kind in chosen(arguments.kinds)
            for level in levels_of(arguments.levels)
        ]
        rows: list[list[object]] = []
        lost = 0
        with progress("perturbing", len(recipes) * len(inputs)) as advance:
            for recipe in recipes:
                for name, path in inputs.items():
                    output = (
                        arguments.output
                        / f"{recipe.kind}-{recipe.level}"
                        / Path(name).with_suffix(".mkv" if arguments.lossless else ".mp4")
                    )
                    try:
                        effect = perturb(path, name, output, recipe, arguments.seconds, lossless=arguments.lossless)
                        rows.append([recipe.kind, recipe.level, recipe.constant, name, *_cells(effect)])
                    except media.MediaError as error:
                        lost += 1
                        say(f"  {shown(name)}: {shown(error)}", error=True)
                    advance()
    except KeyboardInterrupt:
        say("interrupted", error=True)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox perturb", error)
        return 2
    _write(rows, arguments.output / "effects.csv")
    say(f"{len(rows)} videos, {lost} could not be read; {arguments.output / 'effects.csv'}")
    return 1 if lost else 0


def perturb(path: Path, name: str, output: Path, recipe: Recipe, seconds: float, *, lossless: bool = False) -> Effect:
    """Write one perturbed video and return how much it differs from the one it was made of.

    Args:
        name: of the video below its folder; with the recipe it decides what is drawn.
        seconds: of the video, from its start.
        lossless: x264 at CRF 0 and uncompressed sound.

    Raises:
        MediaError: the video cannot be read.
    """
    from visavox import media
    from visavox.robustness.measure import effect
    from visavox.robustness.perturbing import open_perturbed

    how = {"sample_rate": 16000, "max_seconds": seconds}
    with media.open_video(path, **how) as video:  # type: ignore[arg-type]  # values of two types
        before, sound = list(video.frames()), video.audio()
    with open_perturbed(path, recipe, name, **how) as perturbed:
        after = list(perturbed.frames())
        heard = perturbed.audio()
    media.write_video(output, after, heard, crf=0 if lossless else CRF, audio_codec="pcm_s16le" if lossless else "aac")
    return effect(before, after, sound, heard, 16000)


def _listed(name: str, group: str, unit: str, levels: Sequence[float]) -> str:
    return f"{name:14} {group:8} {', '.join(f'{level:g}' for level in levels)}  ({unit})"


def _cells(effect: Effect) -> list[str]:
    return [f"{value:.4g}" if value == value else "" for value in effect]


def _write(rows: Sequence[Sequence[object]], path: Path) -> None:
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["kind", "level", "constant", "filename", "psnr_db", "mel_distance_db", "snr_db", "lag_samples"]
        )
        writer.writerows(rows)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox perturb", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, help="folder of videos, or one of them")
    parser.add_argument("--output", type=Path, help="folder for the perturbed videos")
    parser.add_argument(
        "--kinds", help="such as blur,aac; or picture, sound, joint, all (default: those of --robustness)"
    )
    parser.add_argument("--levels", help="such as 1,3,5 (default: all five)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of each video, from its start (default {SECONDS:g})"
    )
    parser.add_argument("--lossless", action="store_true", help="write Matroska without any further loss; large")
    parser.add_argument("--list", action="store_true", help="say which kinds and levels there are")
    arguments = parser.parse_args(argv)
    if not arguments.list and not (arguments.input and arguments.output):
        parser.error("give --input and --output, or --list")
    return arguments
