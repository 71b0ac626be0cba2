"""Talking faces made from nothing, genuine and forged, for the demo and the tests.

A painted face moves its lips to a formant-synthesised voice (`render`); `forge` makes the four kinds of fake from it,
and `make_dataset` a folder of MP4 files with labels. The same arguments give the same bytes. Results on these clips
show that the machinery works. They say nothing about real deepfakes.

    visavox synthetic --output DIR --identities 32 --clips 8 --seed 0
"""

from __future__ import annotations

from typing import Any

_HOMES = {
    "Clip": "clips",
    "render": "clips",
    "KINDS": "fakes",
    "Forgery": "fakes",
    "forge": "fakes",
    "make_dataset": "dataset",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: `visavox synthetic --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
