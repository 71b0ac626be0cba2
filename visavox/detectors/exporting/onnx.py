"""A detector's network as ONNX, written only where it gives what torch gives.

The graph takes what `Detector.prepare` makes of bundles, one input per field, with a batch of any size; frames, sizes and
all else are fixed. It gives `logit` (B,), higher = more fake; P(fake) is its sigmoid.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from visavox.bundle import Bundle
from visavox.detectors.base import Detector
from visavox.files import replacing

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference of P(fake) between onnxruntime and torch; beyond it nothing is written."""
REPEATS, SLOW = 3, 5.0
"""Runs that are timed, the fastest of which counts; one is enough where it took so many seconds."""


class ExportError(ValueError):
    """The detector cannot be exported, or does not give the same numbers; the message holds the cure."""

    code = "BAD_CONFIG"


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    inputs: dict[str, list[Any]]
    """Input -> shape; the first dimension is `batch`."""
    difference: float
    """Largest difference of P(fake) on the clips that were tried."""
    clips: int
    scores: list[float]
    """P(fake) of these by torch."""
    torch: Took
    """Of one clip on this processor."""
    onnx: Took


@dataclass(frozen=True)
class Took:
    """Fastest of `REPEATS` runs, the two libraries in turns."""

    seconds: float
    """By the clock."""
    cpu: float
    """Of all threads together: what other programs do disturbs them less."""


def export(detector: Detector, bundles: Sequence[Bundle], path: Path) -> Exported:
    """Export the network of a detector and compare it on bundles of real clips.

    Args:
        detector: on the CPU, trained.
        bundles: two or more: a batch of one would be traced as a constant.

    Raises:
        ExportError: the extra is missing, there are too few bundles, the graph cannot be made, or differs by more than
                `TOLERANCE`.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it is read when the library is imported
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError:
        raise ExportError("ONNX needs the extra: pip install 'visavox[export]'") from None
    if len(bundles) < 2:
        raise ExportError(f"{len(bundles)} clip to try it on, two or more are needed; name more with --on")
    detector.eval()
    clips = [detector.prepare(bundle, None) for bundle in bundles]
    batch = default_collate(clips)
    network = _Flat(detector, type(batch)).eval()
    names = [name for name, value in zip(batch._fields, batch) if value.numel()]
    network.fields = tuple(names)
    given = tuple(getattr(batch, name) for name in names)
    any_batch = torch.export.Dim("batch", min=1, max=4096)
    with torch.inference_mode(False), torch.no_grad():
        expected = torch.sigmoid(network(*given).double()).numpy()
        program = _exported(network, given, names, any_batch)
    program.save(beside := path.with_name(f"{path.name}.part"))
    try:
        ready = onnxruntime.InferenceSession(beside, _options(onnxruntime), providers=["CPUExecutionProvider"])
        found, alone = _run(ready, names, given), _run(ready, names, tuple(value[:1] for value in given))
        difference = float(max(np.abs(found - expected).max(), np.abs(alone - expected[:1]).max()))
        if not difference <= TOLERANCE:
            raise ExportError(
                f"onnxruntime's P(fake) differs from torch's by {difference:.2g}, more than {TOLERANCE:g}: not written"
            )
        model = onnx.load(beside, load_external_data=True)
        card = {
            "detector": detector.card.detector,
            "checkpoint": detector.card.checkpoint,
            "output": "logit, higher = more fake",
        }
        for key, value in (card | {"settings": json.dumps(detector.config.model_dump(mode="json"))}).items():
            model.metadata_props.add(key=f"visavox.{key}", value=value)
        with replacing(path) as whole:
            whole.write_bytes(model.SerializeToString())
    finally:
        for left in (beside, beside.with_name(f"{beside.name}.data")):
            left.unlink(missing_ok=True)
    one = tuple(value[:1] for value in given)
    with torch.inference_mode():
        by_torch, by_onnx = _in_turns(lambda: network(*one), lambda: _run(ready, names, one))
    shapes = {name: ["batch", *value.shape[1:]] for name, value in zip(names, given)}
    return Exported(path, shapes, difference, len(bundles), expected.reshape(-1).tolist(), by_torch, by_onnx)


class _Flat(nn.Module):
    """The detector with one argument for each field of its clip."""

    fields: tuple[str, ...]

    def __init__(self, detector: Detector, kind: Any) -> None:
        super().__init__()
        self.detector, self.kind = detector, kind

    def forward(self, *given: Tensor) -> Tensor:
        known = dict(zip(self.fields, given))
        nothing = given[0].new_zeros(0)
        return self.detector(self.kind(*(known.get(name, nothing) for name in self.kind._fields)))


def _exported(network: nn.Module, given: tuple[Tensor, ...], names: list[str], any_batch: Any) -> Any:
    quiet = logging.getLogger("torch.onnx")
    level, quiet_level = quiet.level, logging.ERROR
    quiet.setLevel(quiet_level)
    try:
        return torch.onnx.export(
            network,
            given,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=["logit"],
            dynamic_shapes=(tuple({0: any_batch} for _ in given),),
            verbose=False,
        )
    except Exception as error:  # torch's exporter raises what it likes
        raise ExportError(f"torch cannot export this network: {type(error).__name__}: {str(error)[:500]}") from error
    finally:
        quiet.setLevel(level)


def _run(session: Any, names: Sequence[str], given: Sequence[Tensor]) -> np.ndarray:
    """P(fake) (B,) float64 by onnxruntime."""
    wanted = {each.name for each in session.get_inputs()}
    [logit] = session.run(["logit"], {name: value.numpy() for name, value in zip(names, given) if name in wanted})
    return 1 / (1 + np.exp(-logit.astype(np.float64).reshape(-1)))


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return options


def _in_turns(*works: Callable[[], Any]) -> list[Took]:
    """Run each `REPEATS` times, one after the other, and return the least that each took."""
    took: list[list[Took]] = [[] for _ in works]
    for turn in range(REPEATS):
        if turn and any(run.cpu > SLOW for runs in took for run in runs):
            break
        for work, runs in zip(works, took):
            began, cpu = time.perf_counter(), time.process_time()
            work()
            runs.append(Took(time.perf_counter() - began, time.process_time() - cpu))
    return [Took(min(run.seconds for run in runs), min(run.cpu for run in runs)) for runs in took]
