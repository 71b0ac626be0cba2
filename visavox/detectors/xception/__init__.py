"""Xception over faces, Xception over mel spectrograms, and their fusion.

XceptionVideo, XceptionAudio   the two detectors, trained by train.py with configs/xception_video.json and _audio.json
fusion                         the equations, as functions of numbers
FusedScorer                    both detectors as one scorer: `visavox fuse`
analyse                        everything that is to be said about one clip: the app's one question
"""

from typing import Any

_HOMES = {
    "XceptionVideo": "video",
    "XceptionAudio": "audio",
    "FusedScorer": "scorer",
    "Evidence": "scorer",
    "Analysis": "analysis",
    "analyse": "analysis",
    "fusion": "fusion",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Imported when asked for: the networks need torch, the equations do not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"{__name__}.{_HOMES[name]}")
    return module if name == _HOMES[name] else getattr(module, name)
