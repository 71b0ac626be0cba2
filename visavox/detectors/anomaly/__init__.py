"""A detector that never sees a fake: it learns how real faces and voices move together, and scores the departure.

AnomalyDetector   trained by train.py with configs/anomaly.json: stage `sync`, then stage `density`
Collapse          what stops a training whose features have become constant
write_outputs     training_curves.png, evaluation_results.png, detailed_results.csv
"""

from typing import Any

_HOMES = {"AnomalyDetector": "detector", "Collapse": "guard", "StepScores": "detector", "write_outputs": "outputs"}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Imported when asked for: the networks need torch, the command's help does not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
