"""What does not fit into the memory of a device at once: in smaller batches, at last alone on the CPU. Each is said.

    in_parts(frames, detector.detect, alone=one_by_one, what="frames")

A GPU is shared with whoever else computes on it, so what fitted a minute ago may not fit now, and fits again a minute later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from visavox.errors import code_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from visavox.faces import Detections

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Movable(Protocol):
    """A network, or what holds one."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def to(self, device: torch.device) -> Self:
        """Move it to a device and return it."""


Network = TypeVar("Network", bound=Movable)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    return code_of(error) == "OUT_OF_MEMORY"


def in_parts(
    items: Sequence[Item],
    compute: Callable[[Sequence[Item]], Sequence[Result]],
    alone: Callable[[Item, Exception], Result],
    *,
    what: str,
    parts: Callable[[Exception], bool] = is_out_of_memory,
) -> list[Result]:
    """Return compute(items); where that fails, the results of both halves, down to single items.

    Args:
        compute: gives one result for each item.
        alone: gives the result of an item that failed alone, or raises.
        what: the items in a word, such as frames, for what is logged.
        parts: whether a failure may be mended by smaller parts; others are raised where there are several items.
    """
    if not items:
        return []
    try:
        return list(compute(items))
    except Exception as error:
        if len(items) > 1 and not parts(error):
            raise
        failure = error.with_traceback(None)  # whose frames hold on to the memory of the batch
    if len(items) == 1:
        return [alone(items[0], failure)]
    log.warning("%d %s together failed, now in two parts: %s", len(items), what, failure)
    half = len(items) // 2
    how = {"what": what, "parts": parts}
    return [*in_parts(items[:half], compute, alone, **how), *in_parts(items[half:], compute, alone, **how)]  # type: ignore[arg-type]


def fits_the_cpu(error: BaseException, network: Movable) -> bool:
    """Whether what failed on the network's device may be computed on the CPU."""
    return is_out_of_memory(error) and network.device.type != "cpu"


@contextmanager
def on_cpu(network: Network) -> Iterator[tuple[Network, str]]:
    """Move a network to the CPU for a while; yield it with what is to be told. Where its device has no room for it when it
    comes back, it stays, and that is said."""
    import torch

    device, cpu = network.device, torch.device("cpu")
    with torch.inference_mode(False):  # or its weights would be tensors that can never be trained again
        network = network.to(cpu)
    try:
        yield network, f"on the CPU: the memory of {device} did not suffice"
    finally:
        with torch.inference_mode(False):
            try:
                network.to(device)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                network.to(cpu)  # whole, wherever the way back broke off
                log.warning("what was moved to the CPU stays there: %s has no room for it any more", device)


class FacesWithinMemory:
    """A face detector on a GPU that copes where its memory does not suffice."""

    def __init__(self, faces: Any):
        self.faces, self.name, self.landmark_source = faces, faces.name, faces.landmark_source

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """As the detector's own, (H, W, 3) uint8 RGB each."""
        return in_parts(frames, self.faces.detect, self._alone, what="frames")

    def _alone(self, frame: np.ndarray, error: Exception) -> Detections:
        if not fits_the_cpu(error, self.faces):
            raise error
        with on_cpu(self.faces) as (slow, told):
            log.warning("faces of a frame of %dx%d are searched %s", frame.shape[1], frame.shape[0], told)
            return slow.detect([frame])[0]


class EmbedderWithinMemory:
    """SyncNet's towers on a GPU that cope where its memory does not suffice."""

    def __init__(self, towers: Any):
        self.towers = towers

    def lips(self, crops: np.ndarray, stride: int) -> Tensor:
        """As the towers' own; the number of windows at once is halved where they do not fit, and stays so."""
        while True:
            try:
                return self.towers.lips(crops, stride)
            except Exception as error:
                if not fits_the_cpu(error, self.towers):
                    raise
            if self.towers.batch == 1:
                return self._on_cpu("lips", crops, stride)
            self.towers.batch //= 2
            log.warning("memory does not suffice for the lips, now in batches of %d windows", self.towers.batch)

    def voice(self, cepstra: np.ndarray) -> Tensor:
        """As the towers' own."""
        try:
            return self.towers.voice(cepstra)
        except Exception as error:
            if not fits_the_cpu(error, self.towers):
                raise
        return self._on_cpu("voice", cepstra)

    def _on_cpu(self, tower: str, *what: Any) -> Tensor:
        with on_cpu(self.towers) as (slow, told):
            log.warning("the %s of a video are embedded %s", tower, told)
            return getattr(slow, tower)(*what)
