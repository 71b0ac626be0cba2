"""Search settings of a detector: a training for each choice, on the validation split.

    visavox search --config td3mf --space configs/search/td3mf.json --data-version SPLIT --study runs/search --average-over 3
    visavox search --config tiny --space space.json --data-version SPLIT --study runs/search --trials 40

SPACE is a JSON object: a key of the configuration, dots for groups, to a list of values or to
{"low": 1e-5, "high": 1e-2, "log": true}. Where every key has a list the whole grid is tried, else Optuna's TPE draws --trials
choices. STUDY holds the journal of the study, the runs, trials.csv (best first, with the interval of the mean over seeds) and
search.png. The same command continues a search that was killed, and may run several times at once. A choice is given up after an
epoch in which its best val/auc is below the median of the others at that epoch, unless --no-pruning; its row then says pruned,
with the best that it had. A choice that gives no detector, as 3 heads for a width of 64, is a row that says refused, and why.
What is maximised is what the best epoch is chosen by: val/auc, for task=emotion val/macro_f1.
Needs the extra `search` (Optuna). Exit codes: 0 searched; 2 wrong arguments, settings, data; 5 the disk is full; 130
interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox import config as configuration
from visavox import runs
from visavox.commands import search_table
from visavox.commands.search_table import REFUSED
from visavox.commands.trained import trained
from visavox.config import Config, ConfigError
from visavox.files import is_alive, parse_json
from visavox.logs import complain, say

if TYPE_CHECKING:
    import optuna

GRACE = 5
"""Epochs after which a choice may be given up."""
JOURNAL, LOCK = "study.journal", ".begin.lock"

Space = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    words = _parse(argv)
    try:
        config = configuration.load(words.config, words.overrides)
        space = read_space(words.space)
        from visavox.logs import set_up_logging

        set_up_logging()
        with runs.stoppable():
            rows = search(
                config,
                space,
                data_version=words.data_version,
                study_folder=words.study,
                trials=words.trials,
                average_over=words.average_over,
                allow_leaks=words.allow_leaks,
                prune=words.prune,
            )
    except (KeyboardInterrupt, SystemExit) as error:
        stop = runs.stopped_by(error)  # Lightning makes a SystemExit of it
        if stop is None:
            raise
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ConfigError, ValueError, RuntimeError, OSError, ImportError) as error:
        complain("visavox search", error)
        return runs.exit_code(error)
    tried = [row for row in rows if row["state"] != REFUSED]
    for row in tried[:5]:
        say(f"val/auc {row['auc']:.4f} [{row['low']:.4f}, {row['high']:.4f}]  {row['settings']}")
    refused = f", {len(rows) - len(tried)} of them refused" if len(rows) > len(tried) else ""
    say(f"{len(rows)} choices{refused}; {words.study / search_table.TABLE}")
    return 0


def read_space(path: Path) -> Space:
    """Read what is searched.

    Raises:
        ConfigError: not a JSON object of lists and ranges; the message names the key.
    """
    try:
        space = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no readable space of settings ({error})") from None
    if not isinstance(space, dict) or not space:
        raise ConfigError(f"{path}: expected an object of settings, found {type(space).__name__}")
    for key, values in space.items():
        ranged = isinstance(values, dict) and {"low", "high"} <= values.keys() <= {"low", "high", "log"}
        if not ranged and not (isinstance(values, list) and values):
            raise ConfigError(
                f'{path}: {key} is {values!r}, expected a list of values or {{"low": .., "high": .., "log": ..}}'
            )
    return space


def search(
    config: Config,
    space: Space,
    *,
    data_version: str,
    study_folder: Path,
    trials: int | None = None,
    average_over: int = 1,
    allow_leaks: bool = False,
    prune: bool = True,
) -> list[dict[str, Any]]:
    """Try what has not been tried yet; return the rows of the table, best first.

    Args:
        trials: choices in all where a key has a range; a grid is tried as a whole.
        average_over: seeds of each choice, beginning with the configuration's; the value is the mean of their best val/auc.
        prune: give up what is below the median of the others at the same epoch.

    Raises:
        ConfigError: ranges without a number of trials; another search is in the folder; no choice gives a detector.
    """
    grid = all(isinstance(values, list) for values in space.values())
    if not grid and trials is None:
        raise ConfigError("--trials says how many choices are drawn from ranges")
    study = _study(study_folder, space, config, grid)
    while (trial := _next(study, space, None if grid else trials, study_folder)) is not None:
        _try(study, trial, config, study_folder, data_version, average_over, allow_leaks, prune)
    rows = search_table.write(study, study_folder)
    if rows and all(row["state"] == REFUSED for row in rows):
        raise ConfigError(f"no choice of this space gives a detector; {rows[0]['settings']}: {rows[0]['reason']}")
    return rows


def _study(folder: Path, space: Space, config: Config, grid: bool) -> optuna.Study:
    """Open the study, or make it; choices that a killed process had begun are put back."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    except ImportError:
        raise ImportError("visavox search needs Optuna: pip install 'visavox[search]'") from None
    import filelock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / JOURNAL)
    storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
    what = json.dumps({"space": space, "config": config.model_dump(mode="json")}, sort_keys=True)
    with filelock.FileLock(folder / LOCK):
        study = optuna.create_study(
            storage=storage,
            study_name="visavox",
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=config.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=GRACE),
        )
        held = study.user_attrs.get("what")
        if held is None:
            for values in itertools.product(*space.values()) if grid else ():
                study.enqueue_trial(dict(zip(space, values)))
            study.set_user_attr("what", what)
        elif held != what:
            raise ConfigError(f"{folder} holds a search of other settings or another space; give another --study")
    return study


def _put_back(study: optuna.Study) -> None:
    """Choices that were begun by processes of this machine that are gone are begun again.

    To be called under the lock: whoever holds it says who begins a choice before letting it go, so that a choice that
    nobody claims was begun by a process that was killed just then.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, process = trial.user_attrs.get("process", (None, None))
        if process is None or (host == socket.gethostname() and not is_alive(process)):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.system_attrs.get("fixed_params", {}) | trial.params)


def _next(study: optuna.Study, space: Space, trials: int | None, folder: Path) -> optuna.Trial | None:
    """Ask for the next choice and claim it; None when all have been tried or are being tried by others."""
    import filelock

    with filelock.FileLock(folder / LOCK):  # else two processes may both see the last one that waits
        _put_back(study)
        return _claim(study, space, trials)


def _claim(study: optuna.Study, space: Space, trials: int | None) -> optuna.Trial | None:
    from optuna.trial import TrialState

    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    begun = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(*ended, TrialState.RUNNING))
        if trial.state != TrialState.FAIL or REFUSED in trial.user_attrs  # others were killed, and are begun again
    ]
    if not waiting and (trials is None or len(begun) >= trials):
        return None
    trial = study.ask()
    trial.set_user_attr("process", [socket.gethostname(), os.getpid()])
    for key, values in space.items():
        if isinstance(values, list):
            trial.suggest_categorical(key, values)
        elif all(isinstance(values[end], int) for end in ("low", "high")):
            trial.suggest_int(key, values["low"], values["high"], log=values.get("log", False))
        else:
            trial.suggest_float(key, values["low"], values["high"], log=values.get("log", False))
    return trial


def _try(
    study: optuna.Study,
    trial: optuna.Trial,
    config: Config,
    folder: Path,
    data_version: str,
    seeds: int,
    allow_leaks: bool,
    prune: bool,
) -> None:
    """Train a choice with each seed; its run folders are named by what is chosen, so that a begun one is continued."""
    import optuna
    from optuna.trial import TrialState

    name = hashlib.sha256(json.dumps(trial.params, sort_keys=True).encode()).hexdigest()[:12]
    aucs: list[float] = []
    try:
        _buildable(_chosen(config, trial, folder, config.seed))
    except ValueError as error:  # ConfigError is one
        trial.set_user_attr(REFUSED, " ".join(str(error).split()))
        study.tell(trial, state=TrialState.FAIL)
        return
    for place, seed in enumerate(range(config.seed, config.seed + seeds)):

        def watch(epoch: int, value: float, first: int = place * config.epoch) -> None:
            trial.report(value, step=first + epoch)
            if prune and trial.should_prune():
                raise optuna.TrialPruned

        chosen = _chosen(config, trial, folder, seed)
        run = f"{name}/seed{seed}"
        try:
            metrics = trained(chosen, data_version=data_version, code_version=run, allow_leaks=allow_leaks, watch=watch)
        except optuna.TrialPruned:
            reached = study.get_trials(deepcopy=False)[trial.number].intermediate_values.values()
            trial.set_user_attr("aucs", aucs or [max(reached)])
            study.tell(trial, state=TrialState.PRUNED)
            return
        aucs.append(_value(metrics))
        trial.set_user_attr("aucs", aucs)
    study.tell(trial, sum(aucs) / len(aucs))


def _chosen(config: Config, trial: optuna.Trial, folder: Path, seed: int) -> Config:
    """Return the configuration with what a trial chose; its runs lie in the study's folder.

    Raises:
        ConfigError: a setting refuses its value, or two of them exclude each other.
    """
    plain = [f"{key}={json.dumps(value)}" for key, value in config.model_dump(mode="json").items()]
    words = [f"{key}={json.dumps(value)}" for key, value in trial.params.items()]
    return configuration.load(None, [*plain, *words, f"seed={seed}", f"runs_path={json.dumps(str(folder))}"])


def _buildable(config: Config) -> None:
    """Make the detector once, without data.

    Raises:
        ValueError: its settings do not go together, as heads that do not divide a width.
    """
    from visavox.detectors import build

    build.trainable(config)


def _value(metrics: dict[str, Any]) -> float:
    """What a training is worth, higher = better.

    Raises:
        ConfigError: its best epoch is chosen by a loss, as by a detector whose validation split has no fakes.
    """
    for name in ("best_val_auc", "best_val_macro_f1"):
        if name in metrics:
            return metrics[name]
    found = next((name for name in metrics if name.startswith("best_val")), "nothing")
    raise ConfigError(f"a search maximises val/auc, and this training gives {found}; put fakes into the val split")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="a JSON file or the name of a shipped configuration")
    parser.add_argument("--space", type=Path, required=True, help="JSON of what is searched")
    parser.add_argument(
        "--data-version", default="train_dev_test", help="ROOT_PATH/data/NAME.csv (default train_dev_test)"
    )
    parser.add_argument("--study", type=Path, required=True, help="folder of the search")
    parser.add_argument("--trials", type=int, help="choices in all, where a key has a range")
    parser.add_argument("--average-over", type=int, default=1, metavar="SEEDS", help="seeds of each choice (default 1)")
    parser.add_argument(
        "--no-pruning", dest="prune", action="store_false", help="try every choice to its end, below the median too"
    )
    parser.add_argument("--allow-leaks", action="store_true", help="train although somebody stands in two splits")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the configuration"
    )
    words = parser.parse_intermixed_args(argv)
    if words.average_over < 1 or (words.trials is not None and words.trials < 1):
        parser.error("--trials and --average-over are at least 1")
    return words
