"""Do detectors of full size give the same numbers as ONNX, and in what time?

    python -m benchmarks.exporting
    python -m benchmarks.exporting td3mf --clips a.mp4 b.mp4 c.mp4
    python -m benchmarks.exporting td3mf detector.finetune=true

Each shipped configuration is built in full with seeded weights, written as a checkpoint, loaded, and exported as `visavox
export --onnx` does: refused where P(fake) differs by more than 1e-4 from torch's. Weights are random, so this tells equality
and time and nothing about skill; so that equality is not that of numbers which hardly differ, the last layer is scaled until
the logits of the clips deviate by 1. Faces are found by the Haar cascade and the distances of mouth and voice are those
without weights; 2D3MF gets features of untrained backbones. Clips come from the folder that VISAVOX_TEST_DATA names, else
from synthetic ones.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import default_collate

from benchmarks.clips import EQUALITY_CLIPS, data_folder, synthetic_clips
from benchmarks.report import machine
from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.bundle.trim import trimmed_as
from visavox.config import Config
from visavox.detectors import build
from visavox.detectors.base import Detector
from visavox.detectors.exporting.onnx import OPSET, export
from visavox.preprocessing import tools
from visavox.training import checkpoint

SHIPPED = ("config", "xception_video", "xception_audio", "td3mf")
LIGHT = ("device=cpu", "face_detector=haar", "sync=correlation")
RANDOM = {"td3mf": ("detector.backbone_weights=random",)}
CLIPS = 3


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="NAME|key=value", help=f"of {', '.join(SHIPPED)} (default: all)")
    parser.add_argument("--clips", type=Path, nargs="+", metavar="VIDEO", help="two or more")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    names = [word for word in arguments.words if "=" not in word] or SHIPPED
    overrides = [word for word in arguments.words if "=" in word]
    where = "; ".join(f"{name} {value}" for name, value in machine(arguments.threads, torch.device("cpu")).items())
    print(f"{where}; opset {OPSET}\n")
    print("| detector | parameters | inputs | ONNX | P(fake) of the clips | differs by | torch | onnxruntime |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            print(line(name, Path(folder), arguments.clips, overrides), flush=True)
    return 0


def line(name: str, folder: Path, clips: Sequence[Path] | None, overrides: Sequence[str]) -> str:
    """Build, save, load and export one; a row of the table."""
    config = settings(name, overrides)
    bundles = made(config, clips or _clips(folder))
    saved = folder / "full.ckpt"
    saved_parameters = write(config, bundles, saved)
    detector = build.load(saved)
    assert isinstance(detector, Detector)
    saved.unlink()
    found = export(detector, bundles, folder / "full.onnx")
    scores = " ".join(f"{score:.3f}" for score in found.scores)
    inputs = ", ".join(f"{field} {'×'.join(map(str, shape[1:]))}" for field, shape in found.inputs.items())
    times = " | ".join(f"{took.seconds:.3f} s, CPU {took.cpu:.3f} s" for took in (found.torch, found.onnx))
    return (
        f"| {detector.card.detector} | {saved_parameters / 1e6:.1f} M | {inputs} | {found.path.stat().st_size / 1e6:.0f} MB | "
        f"{scores} | {found.difference:.1e} | {times} |"
    )


def settings(name: str, overrides: Sequence[str]) -> Config:
    path = None if name == "config" else Path(__file__).parents[1] / "configs" / f"{name}.json"
    return configuration.load(path, [*LIGHT, *RANDOM.get(name, ()), *overrides])


def made(config: Config, clips: Sequence[Path]) -> list[Bundle]:
    preprocess = tools.build(config, torch.get_num_threads())
    return [trimmed_as(config, preprocess(path)) for path in clips]


@torch.inference_mode()
def write(config: Config, bundles: Sequence[Bundle], path: Path) -> int:
    """Write a checkpoint of seeded weights whose logits deviate by 1 over the bundles; its number of parameters."""
    torch.manual_seed(config.seed)
    detector = build.trainable(config).eval()
    detector.fit_inputs(bundles)
    batch = default_collate([detector.prepare(bundle, None) for bundle in bundles])
    last = [each for each in detector.modules() if isinstance(each, nn.Linear) and each.out_features <= 2][-1]
    logits = detector(batch)
    factor = 1 / logits.std().clamp(min=1e-6)
    last.weight.mul_(factor)
    if last.out_features == 1:  # its output is the logit
        last.bias.copy_((last.bias - logits.mean()) * factor)
    else:  # of two classes, pooled: which way the first one's bias moves the logit is tried
        mean = detector(batch).mean()
        last.bias[0] += 1
        last.bias[0] -= 1 + mean / (detector(batch).mean() - mean)
    checkpoint.write(path, config, detector.state_dict(), {"trained_on": "nothing, drawn by seed"})
    return sum(value.numel() for value in detector.parameters())


def _clips(folder: Path) -> list[Path]:
    if data := data_folder():
        return [data / clip for clip in EQUALITY_CLIPS[:CLIPS]]
    return synthetic_clips(folder, CLIPS, 4)


if __name__ == "__main__":
    sys.exit(main())
