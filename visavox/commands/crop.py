"""Videos -> bundles: find and follow the main face, cut it out, hear the sound, measure how they fit together.

    python crop.py --workers 4 --input VIDEOS --output BUNDLES
    visavox crop --input /shared/videos --output /shared/bundles --ray head:6379 --workers 64
    visavox crop --input s3://bucket/videos --output s3://bucket/bundles --workers 8
    python crop.py --input clip.mp4 --output BUNDLES --save-image --save-avi --config configs/tiny.json face_max_size=480

Every input gets its row in OUTPUT/manifest.jsonl (status, reason, seconds per stage). Run it again to resume: bundles that
fit their video and the settings are kept, the rest is made. Exit codes: 0 every input has a bundle; 1 some have none, listed
at the end; 2 wrong arguments, settings or weights, nothing was done; 4 another run writes to OUTPUT; 5 the disk is full;
130 interrupted; 143 terminated. Whatever ended it, the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import errno
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from visavox import config as configuration
from visavox import remote, runs
from visavox.config import Config, ConfigError
from visavox.errors import code_of
from visavox.files import PREVIEW, sha256_of, shown, sweep
from visavox.logs import complain, say
from visavox.preprocessing.manifest import MANIFEST, Manifest, ManifestRow, bundle_names
from visavox.preprocessing.notes import COVERED
from visavox.preprocessing.pipeline import Preprocessor, explain
from visavox.preprocessing.tools import build, check_weights, gpu_networks
from visavox.progress import Stopwatch, progress
from visavox.remote import Store, url_of
from visavox.status import SCORED, Status
from visavox.workers import launching, sharding
from visavox.workers.sharding import Shard
from visavox.workers.worker import Died

if TYPE_CHECKING:
    from visavox.bundle.schema import Stamp


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        ray = launching.asked(arguments)
        config = configuration.load(arguments.config or configuration.reference(), arguments.overrides)
        store = remote.asked(arguments)
        inputs = remote.find_inputs(arguments.input)
        check_weights(config)
        if not remote.is_remote(arguments.output):
            arguments.output.mkdir(parents=True, exist_ok=True)
        held = arguments.shard.of(arguments.output / MANIFEST) if arguments.shard else arguments.output
        with runs.stoppable(), runs.holding(store.lock_of(held)):
            rows = crop_folder(
                inputs,
                arguments.output,
                config,
                workers=arguments.workers,
                timeout=arguments.timeout,
                save_image=arguments.save_image,
                save_avi=arguments.save_avi,
                shard=arguments.shard,
                ray=ray,
                store=store,
            )
    except KeyboardInterrupt as stop:
        say("interrupted; run the same command again to resume", error=True)
        return runs.exit_code(stop)
    except (
        ConfigError,
        ImportError,
        RuntimeError,
        OSError,
    ) as error:  # what the user can mend; anything else is ours
        complain("visavox crop", error)
        return runs.exit_code(error)
    return _report(rows, url_of(held if arguments.shard else arguments.output / MANIFEST))


def crop_folder(
    inputs: dict[str, Path],
    output: Path,
    config: Config,
    *,
    workers: int,
    timeout: float | None = None,
    save_image: bool = False,
    save_avi: bool = False,
    shard: Shard | None = None,
    ray: launching.Ray | None = None,
    store: Store = remote.LOCAL,
) -> list[ManifestRow]:
    """Crop every input into `output`, keeping sub-folders; return the rows of the manifest, sorted by input.

    Args:
        shard: take its share of the inputs alone, into a manifest of its own; `visavox merge` puts them together.
        ray: the cluster whose actors do it; inputs and output lie on storage that its machines share.
        store: how inputs and output are held here where they are addresses of a storage.
    """
    from visavox.preprocessing import provenance

    if ray:
        inputs, output = {name: remote.absolute(path) for name, path in inputs.items()}, remote.absolute(output)
    here_alone = not remote.is_remote(output)
    if here_alone:
        output.mkdir(parents=True, exist_ok=True)
        sweep(output)
    stamp = provenance.prep_hash(config)
    tasks = [
        Task(name, path, output, place, stamp, save_image, save_avi, store)
        for (name, path), place in zip(inputs.items(), bundle_names(inputs))
        if shard is None or shard.takes(name)
    ]
    listed = shard.of(Path(MANIFEST)) if shard else Path(MANIFEST)
    with (
        store.standing_in(output, [listed.name, sharding.mark_of(listed).name]) as folder,
        sharding.growing(folder / listed) if shard else nullcontext(),
    ):
        manifest = Manifest(folder / listed)
        rows = [row for task in tasks if (row := manifest.settled(task.name, task.path, task.prep_hash))]
        settled = {row.input for row in rows}
        open_tasks = [task for task in tasks if task.name not in settled]
        workers = max(1, min(workers, len(open_tasks)))
        with (
            gpu_networks(config, bool(open_tasks) and not ray) as server,
            progress("cropping", len(open_tasks)) as advance,
        ):
            start = partial(build, config, threads=launching.threads(workers, ray), server=server)
            run = partial(launching.run, open_tasks, start, crop_task)
            try:
                with closing(run(workers=workers, timeout=timeout, ray=ray)) as results:
                    for task, done in results:
                        if isinstance(done, Died):
                            row = task.row("failed", done.reason, {}, code=done.code)
                        else:
                            row = manifest.with_frames(done) if done.kept else done
                        if row.code == "NO_SPACE":  # every other video would fare the same
                            raise OSError(errno.ENOSPC, row.reason)
                        rows.append(row)
                        manifest.append(row)
                        advance()
            finally:
                if here_alone:
                    sweep(output)  # what workers that had to be stopped were writing
        rows.sort(key=lambda row: row.input)
        manifest.rewrite(rows)
    return rows


@dataclass(frozen=True)
class Task:
    """One video and where its bundle goes."""

    name: str
    path: Path
    output: Path
    place: Path
    prep_hash: str
    save_image: bool = False
    save_avi: bool = False
    store: Store = remote.LOCAL

    @property
    def bundle(self) -> Path:
        return self.output / self.place

    def row(self, status: Status, reason: str, seconds: dict[str, float], **more: Any) -> ManifestRow:
        """Return the row of the manifest that says what became of the video.

        Args:
            seconds: stage -> seconds it took.
            more: further fields of `ManifestRow`.
        """
        return ManifestRow(
            input=self.name,
            status=status,
            reason=reason,
            bundle=self.place.as_posix() if status in SCORED else None,
            prep_hash=self.prep_hash,
            seconds={stage: round(value, 4) for stage, value in seconds.items()},
            **more,
        )


def crop_task(preprocess: Preprocessor, task: Task) -> ManifestRow:
    """Return one row of the manifest: kept, made, or why not. Every fault of a video ends here, with its message."""
    watch = Stopwatch()
    try:
        with (
            task.store.publishing(task.output, [task.place.as_posix()]) as output,
            task.store.fetched(task.path) as path,
        ):
            row = _crop(preprocess, replace(task, path=path, output=output), watch)
            return replace(row, reason=row.reason.replace(str(path), url_of(task.path)))
    except OSError as error:  # of the storage alone
        return task.row("failed", str(error), {"total": watch.total()}, code=code_of(error))


def _crop(preprocess: Preprocessor, task: Task, watch: Stopwatch) -> ManifestRow:
    from visavox.bundle import preview

    source = None
    try:
        if task.path.is_file():
            source = sha256_of(task.path)
        if source and (stamp := _stamp_if_fits(task.bundle, task.prep_hash, source)):
            kept = {"notes": _lines(stamp.notes), "frames": stamp.frames, "kept": True}
            return task.row(cast(Status, stamp.status), "", {"total": watch.total()}, source_sha256=source, **kept)
        bundle = preprocess(task.path, watch=watch, source_sha256=source)
        task.bundle.parent.mkdir(parents=True, exist_ok=True)
        with watch("save"):
            bundle.save(task.bundle)
        with watch("preview"):
            if task.save_image:
                preview.save_image(bundle, task.bundle.with_suffix(f"{PREVIEW}.png"))
            if task.save_avi:
                preview.save_avi(bundle, task.bundle.with_suffix(f"{PREVIEW}.avi"), preprocess.config.resample_rate)
    except Exception as error:  # the row is the answer: nothing a video does may stop the others
        status, reason = explain(error)
        seconds = watch.seconds | {"total": watch.total()}
        return task.row(status, reason, seconds, code=code_of(error), source_sha256=source)
    seconds = watch.seconds | {"total": watch.total()}
    frames = {"frames": bundle.track_frames, "frames_read": watch.counts["decode"]}
    return task.row(bundle.status, "", seconds, source_sha256=source, notes=_lines(bundle.notes), **frames)


def _lines(notes: str) -> tuple[str, ...]:
    return tuple(notes.split("\n")) if notes else ()


def _stamp_if_fits(bundle: Path, prep_hash: str, source_sha256: str) -> Stamp | None:
    """The stamp of a bundle that was made of this video with these settings, or None."""
    from visavox.bundle import BundleError, read_stamp

    if not bundle.is_file():
        return None
    try:
        stamp = read_stamp(bundle)
    except BundleError:
        return None
    return stamp if (stamp.prep_hash, stamp.source_sha256) == (prep_hash, source_sha256) else None


def _report(rows: Sequence[ManifestRow], manifest: str) -> int:
    counts = Counter(row.status for row in rows)
    lost = [row for row in rows if row.bundle is None]
    for row in lost:
        say(f"  {row.status:9} {shown(row.input)}: {shown(row.reason)} [{row.code}]", error=True)
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    say(f"{len(rows)} inputs: {summary}; {sum(row.kept for row in rows)} kept from before; {manifest}")
    short = sum(row.frames < COVERED * row.frames_read for row in rows if row.frames and row.frames_read)
    if short:
        say(
            f"{short} of them show the main face on less than {COVERED:.0%} of their frames; their `notes` there say why"
        )
    return 1 if lost else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox crop",
        description=__doc__,
        epilog=f"settings (key=value, after the options):\n{configuration.help_text()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--input",
        "-input",
        type=remote.place,
        required=True,
        help="folder of videos (searched below), or one video; a path, s3:// or gs://",
    )
    parser.add_argument(
        "--output",
        "-output",
        type=remote.place,
        required=True,
        help="folder for the bundles and manifest.jsonl; the same",
    )
    parser.add_argument(
        "--workers", type=launching.positive, default=4, help="processes, or actors of --ray (default 4)"
    )
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds after which a video is given up (default 600)"
    )
    sharding.add_argument(parser)
    launching.add_arguments(parser)
    remote.add_arguments(parser)
    parser.add_argument(
        "--save-image", action="store_true", help="also write NAME.preview.png: faces, mel images, sync curve"
    )
    parser.add_argument(
        "--save-avi", action="store_true", help="also write NAME.preview.avi: the face track with its sound"
    )
    parser.add_argument("--config", help="JSON file, or the name of a shipped one, such as tiny (default: config.json)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the configuration"
    )
    return parser.parse_intermixed_args(argv)
