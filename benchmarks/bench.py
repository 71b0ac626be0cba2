"""How long does a video take, from file to P(fake)? Ours beside the straightforward pipeline, with equal outputs.

    make bench
    python -m benchmarks.bench --seconds 10 --heights 720 360 1080 --repeats 3 --threads 2
    python -m benchmarks.bench --device cuda

Pipelines take turns on the same clip in one process; what counts are the ratios within a run. Weights of SyncNet, TimeSformer
and RetinaFace-ResNet50 are random, but seeded: they tell time and equality, nothing about skill. So that random boxes do not
decide what is cut out, pipelines with ResNet50 run it in full and then cut out one stated box. RetinaFace-MobileNet0.25 is
the trained one where VISAVOX_TEST_DATA names a folder with `weights/`, and then its own faces are cut out. Real clips come
from the same folder, synthetic ones are made where there is none.

A classifier is scaled until its logits deviate by 1 over several clips. Nothing is reported where logits differ by more than
1e-3 (float32 against the straightforward pipeline; more where scaling enlarges rounding, see `ROUNDING`) or 5e-2 (scoring in
bfloat16 against float32).
"""

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.clips import EQUALITY_CLIPS, data_folder, synthetic_clips, talking_clip
from benchmarks.equality import NEAR, ROUNDING, SAME, Logits, Run, Unequal, compare, scale_classifier
from benchmarks.report import as_markdown, draw, machine
from benchmarks.straightforward import Straightforward, with_multihead_attention
from visavox import config as configuration
from visavox import media, weights
from visavox.compute import dtype_of, has_bf16, resolve_device, scoring_context
from visavox.detectors import build
from visavox.detectors.timesformer import detector as model
from visavox.faces import Detections
from visavox.faces.retinaface import BGR_MEAN, RetinaFace, RetinaFaceDetector, load_published
from visavox.features import syncnet
from visavox.preprocessing.pipeline import Preprocessor
from visavox.progress import Stopwatch

Pipeline = Callable[[Path, "Watch"], Logits]
SLOW = ("a", "b")  # these take part in the first two turns only
ONCE = ("c32",)  # the float32 that bfloat16 is compared with
TINY = ["frame_size=32", "detector.embed_dims=32", "detector.num_layers=2", "detector.num_heads=2", "freq_num=32"]


class Watch(Stopwatch):
    """A stopwatch that counts the processors' seconds too: what other programs do disturbs them less."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = cpu_seconds()
        with super().__call__(stage):
            yield
        self.cpu[stage] = self.cpu.get(stage, 0.0) + cpu_seconds() - began


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.threads, arguments.quick, resolve_device(arguments.device))
        try:
            runs, deviations = bench.measure(arguments.seconds, arguments.heights, arguments.repeats)
        except Unequal as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        limits = bench.limits()
    words = " ".join(sys.argv[1:] if argv is None else argv)
    report = {
        "command": f"python -m benchmarks.bench {words}".strip(),
        "machine": machine(arguments.threads, bench.device),
        "clips": "real, trained MobileNet0.25" if bench.data else "synthetic, random MobileNet0.25 and a stated box",
        "deviations": deviations,
        "held": bench.same,
        "limits": limits,
        "runs": [asdict(run) for run in runs],
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (arguments.output / "results.md").write_text(as_markdown(report), encoding="utf-8")
    draw(report, arguments.output / "results.png")
    print(as_markdown(report))
    return 0


class Bench:
    """Networks and clips, each built once."""

    def __init__(self, folder: Path, threads: int, quick: bool, device: torch.device):
        self.folder, self.threads, self.device = folder, threads, device
        self.fast = "bf16" if has_bf16(device) else "fp32"
        self.data = None if quick else data_folder()
        self.same = SAME
        self.near = np.inf if quick else NEAR  # two tiny clips are too alike for a scaled logit to mean much
        words = [*TINY, "vshift=4"] if quick else []
        self.words = [f"device={device.type}", "store_track=false", *words]
        self.config = configuration.load(None, self.words)
        self.large, self.small = (160, 96) if quick else (1280, 640)  # pixels that RetinaFace sees
        torch.manual_seed(self.config.seed)
        self.syncnet = syncnet.SyncNet().eval().to(device)
        mobilenet = RetinaFace("mobilenet0.25").state_dict()
        if self.data:
            mobilenet = weights.parameters(weights.safe_load(self.data / "weights/retinaface_mobilenet0.25.pth"))
        self.faces = {"mobilenet0.25": mobilenet, "resnet50": RetinaFace("resnet50").state_dict()}
        self.slow: dict[str, torch.nn.Module] = {}
        self.folded: dict[tuple[str, torch.dtype], model.MultimodalDetector] = {}
        self.networks = {"8": self._network(4), "32": self._network(16)}  # faces and mel images together

    def measure(self, seconds: float, heights: Sequence[int], repeats: int) -> tuple[list[Run], dict[str, float]]:
        """Equality first, then the pipelines in turn on each clip; heights after the first on a third of the time, once.

        Raises:
            Unequal: outputs differ by more than they may.
        """
        runs = self._equality_runs(max(1, round(seconds / 3)))
        deviations = compare(runs, "equality clips", self.near, self.same)
        timed: list[Run] = []
        for place, height in enumerate(heights):
            clip = self.clip(height, seconds if place == 0 else seconds / 3)
            pipelines = self.pipelines(self.box(clip))
            for turn in range(repeats if place == 0 else 1):
                for name, pipeline in pipelines.items():
                    if turn >= {**dict.fromkeys(SLOW, 2), **dict.fromkeys(ONCE, 1)}.get(name, repeats):
                        continue
                    timed.append(one_pass(name, clip, pipeline))
                    print(f"{clip.stem}, turn {turn + 1}, {name}: {timed[-1].seconds}", file=sys.stderr, flush=True)
            deviations |= compare([run for run in timed if run.clip == clip.stem], clip.stem, self.near, self.same)
        return timed, deviations

    def pipelines(self, box: np.ndarray) -> dict[str, Pipeline]:
        """The pipelines by their letters (see `report.PIPELINES`); box (4,) is what those with random weights cut out."""
        own = None if self.data else box
        fast = self.fast
        half = [f"crop_precision={fast}"]
        return {
            "a": self._straightforward(box, detect=True),
            "b": self._ours(["face_detection_step=5"], box, "resnet50", self.large),
            "b640": self._ours([], box, "resnet50", self.small),
            "c32": self._ours([], own, "mobilenet0.25", self.small),
            "c320": self._ours([], own, "mobilenet0.25", self.small // 2, scoring=fast),
            "c": self._ours([], own, "mobilenet0.25", self.small, scoring=fast),
            "d": self._ours(half, own, "mobilenet0.25", self.small, scoring=fast),
            "e": self._ours([*half, "sync_stride=2"], own, "mobilenet0.25", self.small, scoring=fast),
        }

    def clip(self, height: int, seconds: float) -> Path:
        return talking_clip(self.folder, self.data, height, seconds)

    def box(self, path: Path) -> np.ndarray:
        """(4,) float32: where MobileNet finds the face on the first frame; without trained weights, amid the picture."""
        with media.open_video(path, threads=1) as video:
            frame = next(video.frames())
        if self.data:
            return RetinaFaceDetector("mobilenet0.25", self.faces["mobilenet0.25"]).detect([frame])[0].boxes[0]
        height, width = frame.shape[:2]
        return np.float32([width / 2 - height / 4, height / 5, width / 2 + height / 4, height * 4 / 5])

    def _equality_runs(self, seconds: float) -> list[Run]:
        """a, b, c32 and d on several clips with the smaller network, no detection; its classifier is scaled by c32."""
        clips = [self.data / clip for clip in EQUALITY_CLIPS] if self.data else synthetic_clips(self.folder, 2, seconds)
        short = [f"max_clip_len={seconds}"]
        bundles, boxes = [], {}
        for clip in clips:
            boxes[clip] = self.box(clip)
            bundles.append(self._bundle(short, boxes[clip], None)(clip))
        self.same = max(SAME, ROUNDING * scale_classifier(self.networks["8"], bundles))
        for name, network in self.networks.items():
            if name != "8":
                own = {key: value for key, value in network.state_dict().items() if key.endswith("time_embed")}
                network.load_state_dict(self.networks["8"].state_dict() | own)
        runs, fast = [], self.fast
        for clip, box in boxes.items():
            pipelines = {
                "a": self._straightforward(box, detect=False, words=short, only=["8"]),
                "b": self._ours(short, box, None, only=["8"]),
                "c32": self._ours(short, box, None, only=["8"]),
                "c": self._ours(short, box, None, only=["8"], scoring=fast),
                "d": self._ours([*short, f"crop_precision={fast}"], box, None, only=["8"], scoring=fast),
            }
            runs += [one_pass(name, clip, pipeline) for name, pipeline in pipelines.items()]
        return runs

    def _straightforward(
        self, box: np.ndarray, *, detect: bool, words: Sequence[str] = (), only: Sequence[str] = ("8", "32")
    ) -> Pipeline:
        slow = {name: self._slow(name) for name in only}
        retinaface = load_published("resnet50", self.faces["resnet50"]).to(self.device) if detect else None
        config = configuration.load(None, [*self.words, *words])
        pipeline = Straightforward(retinaface, self.large, self.syncnet, slow, config)
        return lambda path, watch: pipeline(path, box, watch)

    def _slow(self, name: str) -> torch.nn.Module:
        """Made once, after its weights are final."""
        if name not in self.slow:
            self.slow[name] = with_multihead_attention(self.networks[name])
        return self.slow[name]

    def _folded(self, name: str, dtype: torch.dtype) -> model.MultimodalDetector:
        """As eval.py scores with it; made once, after its weights are final."""
        if (name, dtype) not in self.folded:
            self.folded[name, dtype] = copy.deepcopy(self.networks[name]).for_inference(dtype)
        return self.folded[name, dtype]

    def _ours(
        self,
        words: Sequence[str],
        box: np.ndarray | None,
        network: str | None,
        size: int = 0,
        *,
        scoring: str = "fp32",
        only: Sequence[str] = ("8", "32"),
    ) -> Pipeline:
        preprocess = self._bundle(words, box, network, size)
        dtype = dtype_of(scoring)
        folded = {name: self._folded(name, dtype) for name in only}

        def pipeline(path: Path, watch: Watch) -> Logits:
            bundle = preprocess(path, watch=watch)
            logits = {}
            for name in only:
                with watch(f"classify {name}"), torch.inference_mode(), scoring_context(dtype, self.device):
                    clip = self._clip_of(folded[name], bundle)
                    logits[name] = float(folded[name](clip))
            return logits

        return pipeline

    def _bundle(self, words: Sequence[str], box: np.ndarray | None, network: str | None, size: int = 0) -> Any:
        """A preprocessor with these settings and this bench's weights; a box stands in for what the detector finds."""
        config = configuration.load(None, [*self.words, *words])
        dtype = dtype_of(config.crop_precision)
        options = {"max_size": size, "threshold": config.face_threshold, "preprocessing": BGR_MEAN, "dtype": dtype}
        found = RetinaFaceDetector(network, self.faces[network], device=self.device, **options) if network else None
        folded = syncnet.LocalEmbedder(syncnet.FoldedSyncNet(self.syncnet, dtype))

        def sync(track: Any, sound: np.ndarray) -> Any:
            return syncnet.sync_distances(folded, track.crops, sound, vshift=config.vshift, stride=config.sync_stride)

        faces = found if box is None else StandIn(found, box)
        return Preprocessor(config, faces, sync, self.threads)

    def _network(self, faces: int) -> model.MultimodalDetector:
        """The reference detector with random weights, time attention included (which training starts at zero)."""
        network = build.build(configuration.load(None, [*self.words, f"frame_num={faces}"]))
        for name, parameter in network.named_parameters():
            if name.endswith("temporal_fc.weight"):
                torch.nn.init.trunc_normal_(parameter, std=0.02)
        return network.eval().requires_grad_(False).to(self.device)

    def _clip_of(self, network: model.MultimodalDetector, bundle: Any) -> Any:
        """What the network sees of a bundle, a batch of one on the device."""
        clip = torch.utils.data.default_collate([network.prepare(bundle, None)])
        return network.transfer_batch_to_device(clip, self.device, 0)

    @torch.inference_mode()
    def limits(self) -> dict[str, Any]:
        """What scoring cannot beat: operations of TimeSformer as it scores, and how many a second matrix products reach."""
        rates = {}
        for name in ("fp32", "bf16"):
            dtype = dtype_of(name)
            tokens = torch.randn(1568, 768, device=self.device, dtype=dtype)
            weight = torch.randn(3072, 768, device=self.device, dtype=dtype)
            seconds = []
            for _ in range(12):
                began = time.perf_counter()
                torch.nn.functional.linear(tokens, weight)[0, 0].item()  # read, so that a GPU is waited for
                seconds.append(time.perf_counter() - began)
            rates[name] = 2 * tokens.numel() * len(weight) / min(seconds)
        operations = {}
        for name in self.networks:
            folded = self._folded(name, torch.float32)
            side = folded.config.frame_size
            with FlopCounterMode(display=False) as counted:
                folded.timesformer(torch.zeros(1, 3, int(name), side, side, device=self.device))
            operations[name] = counted.get_total_flops()
        return {"operations per second": rates, "operations": operations}


class StandIn:
    """A detector that looks, and answers with the same box whatever it saw."""

    name, landmark_source = "stand-in", "template"

    def __init__(self, detector: RetinaFaceDetector | None, box: np.ndarray):
        self.detector = detector
        landmarks = np.zeros((1, 5, 2), np.float32) + (box[:2] + box[2:]) / 2
        self.answer = Detections(box[None].astype(np.float32), np.float32([0.99]), landmarks)

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        if self.detector is not None:
            self.detector.detect(frames)
        return [self.answer] * len(frames)


def one_pass(name: str, clip: Path, pipeline: Pipeline) -> Run:
    watch, began = Watch(), cpu_seconds()
    logits = pipeline(clip, watch)
    wall, cpu = watch.total(), cpu_seconds() - began
    for network in logits:
        others = [f"classify {other}" for other in logits if other != network]
        watch.seconds[f"total {network}"] = wall - sum(watch.seconds[other] for other in others)
        watch.cpu[f"total {network}"] = cpu - sum(watch.cpu[other] for other in others)
    rounded = ({stage: round(value, 4) for stage, value in some.items()} for some in (watch.seconds, watch.cpu))
    return Run(name, clip.stem, *rounded, logits)


def cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the first clip")
    parser.add_argument("--heights", type=int, nargs="+", default=[720, 360, 1080])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="of all pipelines' networks")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder of results.md and results.json"
    )
    parser.add_argument("--quick", action="store_true", help="tiny networks and clips: does the bench itself work?")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
