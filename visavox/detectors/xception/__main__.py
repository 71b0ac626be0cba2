"""Two trained branches -> one checkpoint that eval.py, the app and notebooks load.

    visavox fuse --video runs/v/best.ckpt --audio runs/a/best.ckpt --output xception.ckpt
    visavox fuse --video epoch_007.pt --audio best_audio_xception.pth --output xception.ckpt

A branch is a checkpoint of train.py, a published file of Mbulss/Deepfake-Detecetor, or a name of
`visavox weights list`. A calibration.json beside it goes into the checkpoint; it is fitted on validation clips:

    visavox calibrate SCORES --labels SPLIT --checkpoint runs/v/best.ckpt --method platt

Exit codes: 0 written; 2 wrong arguments, or files that do not go together; 4 another run writes to OUTPUT; 5 the disk is full.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from visavox import runs
from visavox.logs import complain, say

if TYPE_CHECKING:
    from visavox.config import LogitCalibration, XceptionAudioConfig, XceptionVideoConfig
    from visavox.detectors.base import Detector
    from visavox.detectors.xception.fusion import Strategy


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        with runs.holding(arguments.output):
            calibrated = fuse(
                arguments.video,
                arguments.audio,
                arguments.output,
                strategy=arguments.strategy,
                trained_on=arguments.trained_on,
                fake_index=(arguments.video_fake_index, arguments.audio_fake_index),
            )
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox fuse", error)
        return runs.exit_code(error)
    say(calibrated)
    say(f"{arguments.output}: eval.py --checkpoint {arguments.output}, or VISAVOX_XCEPTION for the app")
    return 0


def fuse(
    video: str | Path,
    audio: str | Path,
    output: Path,
    *,
    strategy: Strategy = "equal",
    trained_on: str = "",
    fake_index: tuple[int | None, int | None] = (None, None),
) -> str:
    """Write one checkpoint of two branches, calibrated where they are; return in words how.

    Args:
        video, audio: paths, or registry names.
        strategy: the one that holds where nobody asks for another.
        trained_on: what the branches were trained on, in words, for the page that shows their verdicts.
        fake_index: of video and audio, which of two classes means fake in a file that the registry does not know.
    """
    from visavox.config import XceptionAudioConfig, XceptionVideoConfig
    from visavox.detectors.xception.scorer import join
    from visavox.training import checkpoint

    branches = [
        load_branch(video, XceptionVideoConfig(), fake_index[0]),
        load_branch(audio, XceptionAudioConfig(), fake_index[1]),
    ]
    scorer = join(*branches)
    synthetic = all(branch.card.synthetic for branch in branches)
    found = {"video": read_calibration(video), "audio": read_calibration(audio)}
    settings = scorer.settings.model_copy(
        update={"strategy": strategy}
        | {f"{branch}_calibration": logit_map for branch, (logit_map, _) in found.items() if logit_map}
        | ({"audio_temperature": 1.0} if found["audio"][0] else {})
    )
    branchwise = "; ".join(f"{branch}: {words}" for branch, (_, words) in found.items())
    fitted = any(line for line, _ in found.values())
    calibration = f"uncalibrated as a whole; of its branches {branchwise}" if fitted else "uncalibrated"
    about = {
        "trained_on": trained_on or "not said",
        "video": str(video),
        "audio": str(audio),
        "calibration": calibration,
        "synthetic": "yes" if synthetic else "no",
    }
    config = scorer.config.model_copy(update={"detector": settings})
    checkpoint.write(output, config, scorer.state_dict(), about)
    return calibration


def read_calibration(branch: str | Path) -> tuple[LogitCalibration | None, str]:
    """The calibration.json beside a branch's checkpoint as a z + b, None where there is none; and what it is, in words.

    Raises:
        CalibrationError: it was fitted for another checkpoint, or is no straight line in the logit.
    """
    from visavox.config import LogitCalibration
    from visavox.evaluation.calibration import Calibration, CalibrationError
    from visavox.files import sha256_of

    path = Path(branch).with_name("calibration.json")
    if not (Path(branch).is_file() and path.is_file()):
        return None, "not calibrated"
    fitted = Calibration.load(path)
    if fitted.checkpoint and fitted.checkpoint != sha256_of(Path(branch)):
        raise CalibrationError(
            f"{path} was fitted for another checkpoint than {branch}; fit it again with "
            "`visavox calibrate`, or move it away"
        )
    line = fitted.line()
    if line is None:
        raise CalibrationError(
            f"{path}: {fitted.method} is no line in the logit; fit it with --method platt or temperature"
        )
    a, b = line
    words = f"{fitted.method} a = {a:.3g}, b = {b:.3g}, {fitted.n_real} real and {fitted.n_fake} fake val clips"
    return LogitCalibration(a=a, b=b), words


def load_branch(
    source: str | Path, default: XceptionVideoConfig | XceptionAudioConfig, fake_index: int | None = None
) -> Detector:
    """Return a trained branch, with the configuration of its checkpoint; a published file has none and gets `default`."""
    from visavox import config as configuration
    from visavox.config import Config, XceptionAudioConfig, XceptionVideoConfig
    from visavox.detectors.xception.audio import XceptionAudio
    from visavox.detectors.xception.video import XceptionVideo
    from visavox.training import checkpoint

    content = checkpoint.starting(source, fake_index)
    if "hyper_parameters" in content:
        config = configuration.from_dict(content["hyper_parameters"]["config"], source=str(source))
    else:
        config = Config(frame_size=default.size if isinstance(default, XceptionVideoConfig) else 299, detector=default)
    detector: Detector
    match config.detector:
        case XceptionVideoConfig() as settings:
            detector = XceptionVideo(config, settings)
        case XceptionAudioConfig() as settings:
            detector = XceptionAudio(config, settings)
        case other:
            raise ValueError(f"{source}: a checkpoint of {other.name}; wanted is {default.name}")
    if detector.start_from(content) == "ImageNet":
        raise ValueError(
            f"{source}: ImageNet weights, which know no fakes; train from them with --pret-version {source}"
        )
    about = content["hyper_parameters"].get("about", {}) if "hyper_parameters" in content else {}
    detector.card = replace(detector.card, synthetic=checkpoint.is_synthetic(about))
    return detector.eval()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fuse", help="two branches -> one checkpoint")
    command.add_argument("--video", required=True, help="checkpoint, published file, or registry name")
    command.add_argument("--audio", required=True, help="checkpoint, published file, or registry name")
    for branch in ("video", "audio"):
        command.add_argument(
            f"--{branch}-fake-index",
            type=int,
            choices=(0, 1),
            help=f"of the two classes of a {branch} file of other people, the one that means fake; known for registry names",
        )
    command.add_argument("--output", type=Path, required=True, help="the checkpoint to write")
    command.add_argument(
        "--strategy",
        choices=("equal", "video_trust", "adaptive", "either"),
        default="equal",
        help="what holds where nobody asks for another (default equal); either: branches taught their own modality's fakes",
    )
    command.add_argument("--trained-on", default="", help="what they were trained on, in words; the app shows it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
