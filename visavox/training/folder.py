"""The folder of a run: whose it is while it is trained, and how it was begun."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from visavox import config as configuration
from visavox import runs
from visavox.config import Config, ConfigError
from visavox.files import replacing, sweep

log = logging.getLogger(__name__)

COMMAND = "command.json"
"""In a run's folder: with which split and from which weights it was begun."""


def is_first() -> bool:
    """Whether this is the first (or the only) of the processes of a training; Lightning, torchrun and SLURM number them."""
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    return not getattr(rank_zero_only, "rank", 0)


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other trainings out of the run's folder; of several processes of one training the first one holds it."""
    run.mkdir(parents=True, exist_ok=True)
    try:
        if not is_first():
            yield
            return
        with runs.holding(run):
            sweep(run)
            yield
    finally:
        with suppress(OSError):
            run.rmdir()  # where nothing was begun, nothing is left


def claim(run: Path, config: Config, words: dict[str, Any], *, resume: bool, last: Path) -> None:
    """Make the run's folder, or make sure that an earlier run in it is meant and was begun in the same way.

    Args:
        words: options of the command that decide what is trained beside the settings.
        last: checkpoint that it is to go on from, where that is there.

    Raises:
        ConfigError: it was begun in another way, or `last` is of another run; says what each was then and is now.
    """
    path = run / "config.json"
    if path.is_file():
        if not resume:
            raise FileExistsError(
                f"{run} holds a run already; --resume continues it, another --code-version starts a new one"
            )
        same(run, config, words)
        now = config.model_dump(mode="json")
        here = {
            key: value for key, value in now.items() if key != "epoch"
        }  # how long it goes on is config.json's to say
        if last.is_file() and (other := _differences(_trained_as(last), here, "there")):
            raise ConfigError(f"{last} is of another run; put that of this run back, or start anew: {'; '.join(other)}")
        log.info("resuming %s from %s", run, last if last.is_file() else "its start, no epoch was finished")
        return
    if resume:
        raise FileNotFoundError(f"{run}: no run to resume; leave --resume out to start one")
    for place, values in ((run / COMMAND, words), (path, config.model_dump(mode="json"))):
        with replacing(place) as beside:
            beside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def same(run: Path, config: Config, words: dict[str, Any], *, but: Collection[str] = ()) -> None:
    """Make sure that a run was begun with these settings and options of the command.

    Args:
        but: settings that may have changed.

    Raises:
        ConfigError: it was begun in another way; says what each was then and is now.
    """
    now = {key: value for key, value in config.model_dump(mode="json").items() if key not in but}
    changed = _differences(configuration.load(run / "config.json").model_dump(mode="json"), now, "then")
    if (run / COMMAND).is_file():  # runs of before have none
        changed += _differences(json.loads((run / COMMAND).read_text(encoding="utf-8")), words, "then")
    if changed:
        raise ConfigError(f"{run} was begun with other settings; use them again, or start anew: {'; '.join(changed)}")


def _differences(earlier: dict[str, Any], now: dict[str, Any], then: str) -> list[str]:
    return [f"{key}: {earlier.get(key)} {then}, {now[key]} now" for key in now if earlier.get(key) != now[key]]


def _trained_as(last: Path) -> dict[str, Any]:
    from visavox.training import checkpoint

    return checkpoint.read(last).config.model_dump(mode="json")
