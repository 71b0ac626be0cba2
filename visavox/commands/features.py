"""Make features of bundles by two frozen backbones, for 2D3MF.

    visavox features --video-backbone marlin_vit_small_ytf --audio-backbone eat --input BUNDLES --output FEATURES
    visavox features --video_backbone marlin_vit_small_ytf --audio_backbone eat --data_dir DIR [--Forensics]
    visavox features --shard 0/8 ... ; visavox merge FEATURES          # share 0 of eight machines; then all in one table
    visavox features --ray head:6379 --ray-gpus 1 --workers 8 ...
    visavox features --input s3://bucket/bundles --output s3://bucket/features --workers 8 ...

Writes an .npz per bundle, under the bundle's name, and OUTPUT/features.csv with one row for every input: kept (made by an earlier
run), done, or failed with the reason. Files are written as a whole, so a run that was killed is continued by the same command.
Features of other backbones, weights or settings in OUTPUT are never mixed with: the command refuses.
Exit codes: 0 every input has its features; 1 some failed; 2 wrong arguments, settings or weights; 4 another run
writes to OUTPUT; 5 the disk is full; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import csv
import errno
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visavox import config as configuration
from visavox import remote, runs
from visavox.errors import code_of
from visavox.files import replacing, shown, sweep
from visavox.logs import complain, say
from visavox.remote import Store, url_of
from visavox.workers import launching, sharding
from visavox.workers.worker import Died

if TYPE_CHECKING:
    from visavox.config import Config
    from visavox.detectors.td3mf.features import Extractor

TABLE = "features.csv"
Job = tuple[str, Path]


def main(argv: Sequence[str] | None = None) -> int:
    words = _parse(argv)
    try:
        from visavox.logs import set_up_logging

        set_up_logging()
        ray = launching.asked(words)
        config = configuration.load(words.config or configuration.reference(), words.overrides)
        store = remote.asked(words)
        inputs = remote.find_inputs(words.input, {".npz"})
        if words.shard:
            inputs = {name: path for name, path in inputs.items() if words.shard.takes(name)}
        build = partial(
            _extractor,
            words.video_backbone,
            words.audio_backbone,
            config,
            steps=words.steps,
            weights=words.weights,
            seed=words.seed,
        )
        extractor = build()
        others = words.workers is not None or ray is not None
        elsewhere = partial(launching.run, workers=words.workers or 1, ray=ray) if others else None
        if not remote.is_remote(words.output):
            words.output.mkdir(parents=True, exist_ok=True)
        held = words.shard.of(words.output / TABLE) if words.shard else words.output
        with runs.stoppable(), runs.holding(store.lock_of(held)):
            rows = extract(
                inputs,
                words.output,
                extractor,
                config,
                table=held if words.shard else words.output / TABLE,
                launch=(lambda jobs, work: elsewhere(jobs, build, work)) if elsewhere else None,
                store=store,
            )
    except KeyboardInterrupt as stop:
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ValueError, ImportError, RuntimeError, OSError) as error:
        complain("visavox features", error)
        return runs.exit_code(error)
    return _report(rows, words)


class Row(NamedTuple):
    """What became of one input; a row of the table."""

    filename: str
    status: str
    """kept, done or failed."""
    seconds: float
    reason: str
    steps: int
    """Of video."""
    sound: int
    """Steps of sound; 0 for a clip without."""


class Done(NamedTuple):
    """What a worker gives for one input."""

    row: Row
    code: str = ""
    """Why there are no features, one of `visavox.errors.CODES`."""


Results = Generator[tuple[Job, Done | Died], None, None]


def extract(
    inputs: dict[str, Path],
    output: Path,
    extractor: Extractor,
    config: Config,
    *,
    table: Path | None = None,
    launch: Callable[[Sequence[Job], Callable[[Extractor, Job], Done]], Results] | None = None,
    store: Store = remote.LOCAL,
) -> list[Row]:
    """Make the features that `output` lacks; return a row for every input, in the order of `inputs`.

    Args:
        inputs: name -> bundle, made with the settings of `config`.
        table: where the rows go; None: `TABLE` in `output`.
        launch: has other processes do it, as `launching.run` does; None: here, one clip in memory at a time.
        store: how bundles and features are held here where they lie on a storage.

    Raises:
        FeatureError: `output` holds features with another stamp.
        BundleError: the bundles were made with several settings, or others than `config`'s.
        OSError: the disk is full.
    """
    from visavox.detectors.td3mf.features import FeatureFolder
    from visavox.progress import progress
    from visavox.splits.text_table import for_people

    _same_settings(inputs, config, store)
    if not remote.is_remote(output):
        sweep(output)
        FeatureFolder(output).require(extractor.stamp)
    elif some := remote.files_below(output, ".npz")[:1]:  # each of the others is compared when its turn comes
        with store.fetched(some[0]) as here:
            FeatureFolder(here.parent).require(extractor.stamp)
    jobs = [(name, remote.absolute(path) if launch else path) for name, path in inputs.items()]
    work = partial(_extract, store, remote.absolute(output) if launch else output, config)
    found: dict[str, Row] = {}
    results = launch(jobs, work) if launch else ((job, work(extractor, job)) for job in jobs)
    with progress("features", len(inputs)) as advance, closing(results):
        for (name, _), done in results:
            found[name] = Row(name, "failed", 0.0, done.reason, 0, 0) if isinstance(done, Died) else done.row
            if done.code == "NO_SPACE":  # every other bundle would fare the same
                raise OSError(errno.ENOSPC, found[name].reason)
            advance()
    rows = [found[name] for name in inputs]
    table = table or output / TABLE
    with (
        store.publishing(table.parent, []) as folder,
        replacing(folder / table.name) as beside,
        beside.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows([for_people(cell) for cell in row] for row in rows)
    return rows


def _extractor(video: str, audio: str, config: Config, **how: Any) -> Extractor:
    """Both backbones, on the device that the configuration names or that is there."""
    from visavox.compute import resolve_device
    from visavox.detectors.td3mf.features import Extractor

    return Extractor.build(video, audio, config, device=str(resolve_device(config.device)), **how)


def _extract(store: Store, folder: Path, config: Config, extractor: Extractor, job: Job) -> Done:
    """Have the features of one bundle in the folder, or the reason why there are none. Every fault of a bundle ends here."""
    from visavox.preprocessing.pipeline import explain

    name, path = job
    here, output, began = path, folder, time.perf_counter()
    try:
        with store.publishing(folder, [name]) as output, store.fetched(path) as here:
            return Done(_extract_here(output, config, extractor, (name, here)))
    except Exception as error:  # the row is the answer: nothing a bundle does may stop the others
        reason = explain(error)[1].replace(str(here), url_of(path)).replace(str(output), url_of(folder))
        return Done(Row(name, "failed", round(time.perf_counter() - began, 3), reason, 0, 0), code_of(error))


def _extract_here(folder: Path, config: Config, extractor: Extractor, job: Job) -> Row:
    from visavox.bundle.schema import read_stamp
    from visavox.bundle.trim import load_trimmed
    from visavox.detectors.td3mf.features import Features

    name, path = job
    target = folder / name
    began = time.perf_counter()
    if target.is_file():
        features = Features.load(target, extractor.stamp)
        if features.source_sha256 == read_stamp(path).source_sha256:
            return Row(name, "kept", 0.0, "", len(features.video), len(features.audio))
    features = extractor(load_trimmed(path, config))
    features.save(target)
    return Row(name, "done", round(time.perf_counter() - began, 3), "", len(features.video), len(features.audio))


def _same_settings(inputs: dict[str, Path], config: Config, store: Store) -> None:
    """Refuse bundles that were made with other settings than the configuration's; damaged ones get their row later."""
    from visavox.bundle import BundleError
    from visavox.bundle.schema import read_stamp
    from visavox.preprocessing.provenance import differing_settings, prep_hash

    expected, other = prep_hash(config), []
    for name, path in inputs.items():
        try:
            with store.fetched(path) as here:
                stamp = read_stamp(here)
        except (BundleError, remote.RemoteError):
            continue
        if stamp.prep_hash != expected:
            other.append((name, differing_settings(stamp, config)))
    if other:
        name, differences = other[0]
        raise BundleError(
            f"{len(other)} of {len(inputs)} bundles were made with other settings, e.g. {name} ({differences}); give the "
            "configuration they were cropped with (--config, key=value), or crop again"
        )


def _report(rows: Sequence[Row], words: argparse.Namespace) -> int:
    failed = [row for row in rows if row.status == "failed"]
    done = [row for row in rows if row.status == "done"]
    for row in failed:
        say(f"  failed {shown(row.filename)}: {shown(row.reason)}", error=True)
    silent = sum(row.sound == 0 for row in rows if row.status != "failed")
    if silent:
        hint = (
            "; FaceForensics++ is published without: `visavox ffpp-audio`, then crop again" if words.Forensics else ""
        )
        say(f"{silent} of {len(rows)} clips have no sound{hint}", error=True)
    mean = f", {sum(row.seconds for row in done) / len(done):.2f} s each" if done else ""
    kept = len(rows) - len(done) - len(failed)
    say(f"{len(rows)} bundles: {len(done)} done{mean}, {kept} kept, {len(failed)} failed; {url_of(words.output)}")
    return 1 if failed else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox features", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video-backbone", "--video_backbone", default="marlin_vit_small_ytf", help="what sees")
    parser.add_argument("--audio-backbone", "--audio_backbone", default="eat", help="what hears")
    parser.add_argument("--input", type=remote.place, help="folder of bundles, or one bundle; a path, s3:// or gs://")
    parser.add_argument("--output", type=remote.place, help="folder for the features; the same")
    parser.add_argument(
        "--data_dir",
        "--data-dir",
        type=remote.here_alone,
        help="2D3MF's word: --input DIR/bundles --output DIR/features/VIDEO-AUDIO",
    )
    parser.add_argument(
        "--Forensics",
        action="store_true",
        help="2D3MF's word for FaceForensics++: says how clips without sound get theirs",
    )
    parser.add_argument(
        "--steps", type=int, default=10, help="steps of video at most, detector.temporal_axis (default 10)"
    )
    parser.add_argument(
        "--weights",
        default="published",
        help="published; random: untrained backbones, as a control; else a folder of `visavox pretrain-backbones`",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random weights")
    parser.add_argument(
        "--workers", type=launching.positive, help="processes, or actors of --ray (default: none beside this one)"
    )
    sharding.add_argument(parser)
    launching.add_arguments(parser)
    remote.add_arguments(parser)
    parser.add_argument("--config", help="the configuration that the bundles were made with (default: config.json)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the configuration"
    )
    words = parser.parse_intermixed_args(argv)
    if words.data_dir is not None:
        words.input = words.input or words.data_dir / "bundles"
        words.output = words.output or words.data_dir / "features" / f"{words.video_backbone}-{words.audio_backbone}"
    if words.input is None or words.output is None:
        parser.error("give --input and --output, or --data_dir")
    if words.steps < 1:
        parser.error(f"--steps={words.steps}: at least 1")
    return words
