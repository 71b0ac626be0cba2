"""What does training wait for? Samples per second of the loader, and time and memory of an optimiser step.

    python -m benchmarks.training
    python -m benchmarks.training --workers 0 2 8 --batch 8 --steps 20 device=cuda

Bundles of full size (config.json) are made up of noise: what is in them costs no time. First the loader alone, augmentation
included, by number of worker processes. Then a step (forward, backward, SGD) of the reference network with its own attention
(scaled_dot_product_attention) and with nn.MultiheadAttention, as mmaction2's TimeSformer has it, in turns on the same batch, bf16
where the hardware has it. From both: how many loader workers keep the device busy.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from benchmarks.straightforward import with_multihead_attention
from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.compute import has_bf16, resolve_device
from visavox.config import Config
from visavox.detectors import build
from visavox.detectors.timesformer import detector
from visavox.preprocessing.provenance import prep_hash
from visavox.training.data_module import BundleDataset


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes (default 0 1 2)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2, help="of each network; a full-size step takes a CPU a minute")
    parser.add_argument("--samples", type=int, default=64, help="that the loader gives in each measurement")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(argv)
    config = configuration.load(None, ["sync=off", "face_detector=haar", *arguments.overrides])
    with tempfile.TemporaryDirectory() as folder:
        network = build.build(config)
        network.latency.fit(torch.randn(9, 2 * config.vshift + 3))
        data = made_up(Path(folder), config, network, arguments.samples)
        best = 0.0
        for workers in arguments.workers:
            rate = samples_per_second(data, workers)
            best = max(best, rate / max(1, workers))
            print(
                f"loader, {workers} workers: {rate:.1f} samples/s, {1000 * max(1, workers) / rate:.1f} ms each",
                flush=True,
            )
        seconds = steps(network, data, config, arguments.batch, arguments.steps)
    need = arguments.batch / seconds
    print(
        f"a step of {arguments.batch} takes {seconds:.3f} s = {need:.1f} samples/s: {np.ceil(need / best):.0f} loader workers"
    )
    return 0


def made_up(folder: Path, config: Config, network: detector.MultimodalDetector, samples: int) -> BundleDataset:
    """Sixteen bundles of noise, each several times."""
    from dataclasses import replace

    rng = np.random.default_rng(0)
    blank = Bundle.blank(config)
    paths = []
    for number in range(min(16, samples)):
        faces = rng.integers(0, 256, blank.faces.shape, np.uint8)
        paths.append(folder / f"{number}.npz")
        replace(blank, faces=faces, prep_hash=prep_hash(config), source_sha256=f"{number:064d}").save(paths[-1])
    several = [str(paths[number % len(paths)]) for number in range(samples)]
    return BundleDataset(
        pd.DataFrame({"path": several, "label": [number % 2 for number in range(samples)]}), config, network.prepare
    )


def samples_per_second(data: BundleDataset, workers: int) -> float:
    """After each worker's first sample, which pays for its start."""
    order = [(index, index) for index in range(len(data))]
    loader = iter(DataLoader(data, batch_size=1, sampler=order, num_workers=workers, multiprocessing_context=None))
    for _ in range(max(1, workers)):
        next(loader)
    began = time.perf_counter()
    rest = sum(1 for _ in loader)
    return rest / (time.perf_counter() - began)


def steps(network: detector.MultimodalDetector, data: BundleDataset, config: Config, batch: int, count: int) -> float:
    """Median seconds of our step; prints both networks' and their peak memory."""
    device = resolve_device(config.device)
    examples = torch.utils.data.default_collate([data[(index, index)] for index in range(batch)])
    clip = type(examples.clip)(*(part.to(device) for part in examples.clip))
    labels = examples.label.to(device)
    bf16 = has_bf16(device)
    networks = {"ours": network, "nn.MultiheadAttention": with_multihead_attention(network)}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    peaks: dict[str, int] = {}
    for turn in range(count + 1):  # the first turn warms up
        for name, one in networks.items():
            one.to(device).train()
            optimizer = torch.optim.SGD(one.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
                loss = one.loss(one(clip), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize()
                peaks[name] = torch.cuda.max_memory_allocated()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    if device.type == "cpu":
        peaks["both networks"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for name, values in seconds.items():
        spread = f"{min(values):.3f}-{max(values):.3f}"
        print(f"step, {name}: {median(values):.3f} s ({spread}), batch {batch}, {'bf16' if bf16 else 'fp32'}, {device}")
    print("peak memory: " + ", ".join(f"{name} {peak / 1e9:.2f} GB" for name, peak in peaks.items()))
    ours, theirs = (median(seconds[name]) for name in networks)
    print(f"ours is {theirs / ours:.2f} times as fast as nn.MultiheadAttention")
    return ours


if __name__ == "__main__":
    sys.exit(main())
