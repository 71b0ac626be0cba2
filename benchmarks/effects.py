"""What do bf16 and sync stride change in the distances, and in P(fake)?

    python -m benchmarks.effects --input VIDEOS
    python -m benchmarks.effects --input VIDEOS --seconds 4 face_detector=haar

Every video is cropped once; its distances are then measured in float32 at every window (the yardstick), in bf16, and with
sync_stride 2 and 5. P(fake) is that of the reference network with random weights, its classifier scaled until logits deviate
by 1 over the videos; scoring in bf16 is shown beside it. SyncNet's weights are random where the registry's are not at hand, and
then the table says so: curves of random weights are flat, so that the least noise moves their minimum.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench import scale_classifier
from benchmarks.tools import has_syncnet, settings
from visavox import weights
from visavox.bundle import Bundle
from visavox.compute import has_bf16
from visavox.detectors import build
from visavox.detectors.timesformer import detector
from visavox.faces import FaceTrack
from visavox.features import syncnet
from visavox.features.sync import Sync
from visavox.files import find_inputs
from visavox.preprocessing import tools
from visavox.preprocessing.pipeline import Preprocessor

VARIANTS = {"bf16": ("bf16", 1), "stride 2": ("fp32", 2), "stride 5": ("fp32", 5), "bf16, stride 2": ("bf16", 2)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each video (default 4)")
    parser.add_argument("--frames", type=int, default=4, help="faces that the network sees (default 4)")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(argv)
    words = [f"max_clip_len={arguments.seconds}", f"frame_num={arguments.frames}", "store_track=false", "sync=syncnet"]
    config = settings([*words, *arguments.overrides])
    torch.manual_seed(config.seed)
    known = has_syncnet()
    published = syncnet.load(weights.state_dict("syncnet_v2")) if known else syncnet.SyncNet().eval()
    networks = {
        "fp32": syncnet.FoldedSyncNet(published),
        "bf16": syncnet.FoldedSyncNet(published, torch.bfloat16),
    }
    if not has_bf16(torch.device("cpu")):
        print("this processor has no bf16: it is emulated, the same numbers in more time")
    bundles: list[Bundle] = []
    others: dict[str, list[Bundle]] = {name: [] for name in VARIANTS}
    faces = tools.build(config.model_copy(update={"sync": "off"})).faces
    for video in find_inputs(arguments.input).values():
        seen: dict[str, Sync] = {}

        def sync(track: FaceTrack, sound: np.ndarray, seen: dict[str, Sync] = seen) -> Sync:
            for name, (precision, stride) in {"": ("fp32", 1), **VARIANTS}.items():
                seen[name] = syncnet.sync_distances(
                    networks[precision], track.crops, sound, vshift=config.vshift, pad=config.sync_pad, stride=stride
                )
            return seen[""]

        try:
            bundles.append(Preprocessor(config, faces, sync)(video))
        except ValueError as error:
            print(f"left out: {video.name}: {error}", file=sys.stderr)
            continue
        for name in VARIANTS:
            found = {key: np.asarray(value) for key, value in seen[name]._asdict().items()}
            others[name].append(replace(bundles[-1], **found))
        print(f"{len(bundles)}: {video.name}", file=sys.stderr, flush=True)
    print(f"{len(bundles)} videos, SyncNet's weights are {'trained' if known else 'RANDOM'}; changes against float32:")
    print("| | mdist: mean (largest) | of its own deviation | latency moved | conf: mean | P(fake): mean (largest) |")
    print("|---|---|---|---|---|---|")
    network = build.build(config).eval().requires_grad_(False)
    scale_classifier(network, bundles)
    before = scores(network, bundles, "fp32")
    for name, changed in others.items():
        print(row(name, bundles, changed, scores(network, changed, "fp32") - before))
    print(row("scoring in bf16", bundles, bundles, scores(network, bundles, "bf16") - before))
    return 0


def scores(network: detector.MultimodalDetector, bundles: Sequence[Bundle], precision: str) -> np.ndarray:
    """P(fake) of each, (N,)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return np.concatenate([network.score([bundle]) for bundle in bundles])


def row(name: str, before: Sequence[Bundle], after: Sequence[Bundle], moved: np.ndarray) -> str:
    mdist = np.abs([b.mdist - a.mdist for a, b in zip(before, after, strict=True)])  # (N, V)
    own = np.mean([a.mdist.std() for a in before])
    latency = np.mean([a.latency != b.latency for a, b in zip(before, after, strict=True)])
    conf = np.mean([abs(b.conf - a.conf) for a, b in zip(before, after, strict=True)])
    return (
        f"| {name} | {mdist.mean():.2e} ({mdist.max():.2e}) | {mdist.mean() / own:.1%} | {latency:.0%} | {conf:.2e} | "
        f"{np.abs(moved).mean():.2e} ({np.abs(moved).max():.2e}) |"
    )


if __name__ == "__main__":
    sys.exit(main())
