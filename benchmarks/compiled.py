"""Does torch.compile pay for scoring?

    python -m benchmarks.compiled
    python -m benchmarks.compiled --frames 16 --repeats 5 device=cuda

Seconds of TimeSformer as eval.py runs it and of the compiled network, in turns on the same clip, and of compiling it.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from benchmarks.tools import settings
from visavox.compute import resolve_device, scoring_dtype
from visavox.detectors import build
from visavox.detectors.timesformer.inference import FoldedTimeSformer


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 32], help="faces and mel images together")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(argv)
    config = settings(arguments.overrides)
    device = resolve_device(config.device)
    dtype = scoring_dtype(config.score_precision, device)
    torch.manual_seed(config.seed)
    plain = build.build(config).timesformer.eval().to(device)
    networks = {"as eval.py scores": FoldedTimeSformer(copy.deepcopy(plain), dtype), "compiled": compiled(plain, dtype)}
    for frames in arguments.frames:
        seen = torch.randn(1, 3, frames, config.frame_size, config.frame_size, device=device)
        print(f"{frames} frames, compiling: {seconds_of(networks['compiled'], seen):.0f} s", flush=True)
        seconds: dict[str, list[float]] = {name: [] for name in networks}
        for _ in range(arguments.repeats + 1):  # in turns, the first not counted
            for name, network in networks.items():
                seconds[name].append(seconds_of(network, seen))
        for name, values in seconds.items():
            values = values[1:]
            print(f"{frames} frames, {name}: {median(values):.3f} s ({min(values):.3f}-{max(values):.3f})")
        one, other = (network(seen) for network in networks.values())
        print(f"{frames} frames, features differ by at most {float((one - other).abs().max()):.1e}", flush=True)
    return 0


def compiled(network: torch.nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The plain network by torch.compile, under autocast, its weights constants that are packed beforehand."""
    from torch._inductor import config as inductor

    inductor.freezing = True
    network = torch.compile(network)

    def forward(seen: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(seen.device.type, dtype, enabled=dtype != torch.float32):
            return network(seen)

    return forward


def seconds_of(network: Callable[[Tensor], Tensor], seen: Tensor) -> float:
    began = time.perf_counter()
    network(seen)[0, 0].item()  # read, so that a GPU is waited for
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
