"""A training that several commands need: done once, continued where it was stopped, read where it is finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavox.config import Config
    from visavox.training.callbacks import Watch


PLACES = ("root_path", "runs_path", "device")
"""Settings that a finished run keeps its numbers without: where it lies, and what computed it."""


def trained(
    config: Config,
    *,
    data_version: str,
    code_version: str,
    pret_version: str = "none",
    allow_leaks: bool = False,
    watch: Watch | None = None,
    last: str = "test.json",
) -> dict[str, Any]:
    """Return the metrics of the run RUNS_PATH/CODE_VERSION: train it, go on with it, or read the test.json that it left.

    Args:
        data_version, code_version, pret_version, allow_leaks, watch: as for `train.train`.
        last: the file that training writes last; a run that lacks it is gone on with.

    Raises:
        ConfigError: the run of that name was begun with other settings.
    """
    from visavox.commands.train import train
    from visavox.training.folder import same

    run = Path(config.runs_path, code_version)
    if (run / last).is_file():
        same(run, config, {"--data-version": data_version, "--pret-version": pret_version}, but=PLACES)
        return json.loads((run / "test.json").read_text(encoding="utf-8"))
    return train(
        config,
        data_version=data_version,
        code_version=code_version,
        pret_version=pret_version,
        resume=(run / "config.json").is_file(),
        allow_leaks=allow_leaks,
        watch=watch,
    )
