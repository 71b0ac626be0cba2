"""Two trained branches -> one checkpoint that eval.py, the app and notebooks load.

    python -m visavox.xception fuse --video runs/v/best.ckpt --audio runs/a/best.ckpt --output xception.ckpt
    python -m visavox.xception fuse --video epoch_007.pt --audio best_audio_xception.pth --output xception.ckpt

A branch is a checkpoint of train.py, a published file of Mbulss/Deepfake-Detecetor, or a name of
`python -m visavox.weights list`. Exit codes: 0 written; 2 wrong arguments, or files that do not go together.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavox.detector import Detector


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        fuse(arguments.video, arguments.audio, arguments.output, trained_on=arguments.trained_on)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"visavox.xception: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.output}: eval.py --checkpoint {arguments.output}, or VISAVOX_XCEPTION for the app")
    return 0


def fuse(video: str | Path, audio: str | Path, output: Path, *, trained_on: str = "") -> None:
    """Write one checkpoint of two branches.

    Args:
        video, audio: paths, or registry names.
        trained_on: what the branches were trained on, in words, for the page that shows their verdicts.
    """
    import torch

    from visavox.config import XceptionAudioConfig, XceptionVideoConfig
    from visavox.xception.scorer import join

    scorer = join(load_branch(video, XceptionVideoConfig()), load_branch(audio, XceptionAudioConfig()))
    about = {"trained_on": trained_on or "not said", "video": str(video), "audio": str(audio)}
    content = {
        "hyper_parameters": {"config": scorer.config.model_dump(mode="json"), "about": about},
        "state_dict": scorer.state_dict(),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f"{output.name}.{os.getpid()}.part")
    try:
        torch.save(content, beside)
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)


def load_branch(source: str | Path, default: Any) -> "Detector":
    """A trained branch: with the configuration of its checkpoint, or with `default` for a published file, which has none."""
    from visavox import config as configuration
    from visavox import weights
    from visavox.config import Config, XceptionVideoConfig
    from visavox.xception.audio import XceptionAudio
    from visavox.xception.video import XceptionVideo

    path = Path(source) if Path(source).is_file() else weights.resolve(str(source))
    checkpoint = weights.safe_load(path)
    if "hyper_parameters" in checkpoint:
        config = configuration.from_dict(checkpoint["hyper_parameters"]["config"], source=str(path))
    else:
        config = Config(frame_size=default.size if isinstance(default, XceptionVideoConfig) else 299, detector=default)
    kinds = {"xception_video": XceptionVideo, "xception_audio": XceptionAudio}
    if config.detector.name not in kinds:
        raise ValueError(f"{path}: a checkpoint of {config.detector.name}; wanted is {default.name}")
    detector = kinds[config.detector.name](config)
    source_of = detector.start_from(checkpoint)
    if source_of == "ImageNet":
        raise ValueError(f"{path}: ImageNet weights, which know no fakes; train from them with --pret-version {path}")
    return detector.eval()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox.xception", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fuse", help="two branches -> one checkpoint")
    command.add_argument("--video", required=True, help="checkpoint, published file, or registry name")
    command.add_argument("--audio", required=True, help="checkpoint, published file, or registry name")
    command.add_argument("--output", type=Path, required=True, help="the checkpoint to write")
    command.add_argument("--trained-on", default="", help="what they were trained on, in words; the app shows it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
