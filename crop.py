"""Videos -> bundles: find and follow the main face, cut it out, hear the sound, measure how they fit together.

    python crop.py --workers 4 --input VIDEOS --output BUNDLES
    python crop.py --input clip.mp4 --output BUNDLES --save-image --save-avi --config configs/tiny.json face_max_size=480

Every input gets its row in OUTPUT/manifest.jsonl (status, reason, seconds per stage). Run it again to resume: bundles that
fit their video and the settings are kept, the rest is made. Exit codes: 0 every input has a bundle; 1 some have none, listed
at the end; 2 wrong arguments, settings or weights, nothing was done; 130 interrupted.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox import config as configuration
from visavox.config import Config, ConfigError
from visavox.inputs import MANIFEST, PREVIEW, Manifest, bundle_names, find_inputs, sha256_of, sweep
from visavox.preprocess import crop_video, explain
from visavox.progress import Stopwatch, progress

if TYPE_CHECKING:
    import numpy as np

    import SyncNetModel
    from visavox.faces import FaceDetector, FaceTrack
    from visavox.owner import Address, Link
    from visavox.sync import Sync


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        config = configuration.load(arguments.config, arguments.overrides)
        inputs = find_inputs(arguments.input)
        check_tools(config)
        rows = crop_folder(
            inputs,
            arguments.output,
            config,
            workers=arguments.workers,
            timeout=arguments.timeout,
            save_image=arguments.save_image,
            save_avi=arguments.save_avi,
        )
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except (
        ConfigError,
        FileNotFoundError,
        RuntimeError,
        OSError,
    ) as error:  # what the user can mend; anything else is ours
        print(f"crop.py: {error}", file=sys.stderr)
        return 2
    return _report(rows, arguments.output)


def crop_folder(
    inputs: dict[str, Path],
    output: Path,
    config: Config,
    *,
    workers: int,
    timeout: float | None = None,
    save_image: bool = False,
    save_avi: bool = False,
) -> list[dict[str, Any]]:
    """Crop every input into `output`, keeping sub-folders; rows of the manifest, sorted by input."""
    from visavox import bundle, pool

    output.mkdir(parents=True, exist_ok=True)
    sweep(output)
    stamp = bundle.prep_hash(config)
    tasks = [
        Task(name, path, output, place, stamp, save_image, save_avi)
        for (name, path), place in zip(inputs.items(), bundle_names(inputs))
    ]
    manifest = Manifest(output / MANIFEST)
    rows = [row for task in tasks if (row := manifest.settled(task.name, task.path, task.prep_hash))]
    open_tasks = [task for task in tasks if task.name not in {row["input"] for row in rows}]
    workers = max(1, min(workers, len(open_tasks)))
    threads = max(1, pool.cores() // workers)
    with owned_networks(config, bool(open_tasks)) as owner, progress("cropping", len(open_tasks)) as advance:
        start = partial(build_tools, config, threads=threads, owner=owner)
        for task, row in pool.run(open_tasks, start, partial(crop_task, config), workers=workers, timeout=timeout):
            if isinstance(row, pool.Died):
                row = task.row("failed", row.reason, {})
            rows.append(row)
            manifest.append(row)
            advance()
    rows.sort(key=lambda row: row["input"])
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

    @property
    def bundle(self) -> Path:
        return self.output / self.place

    def row(self, status: str, reason: str, seconds: dict[str, float], **more: Any) -> dict[str, Any]:
        made = self.place.as_posix() if status in ("ok", "no_audio") else None
        facts = {"input": self.name, "status": status, "reason": reason, "bundle": made, "prep_hash": self.prep_hash}
        return facts | more | {"seconds": {stage: round(value, 4) for stage, value in seconds.items()}}


@dataclass(frozen=True)
class Tools:
    """What a worker builds once: the face detector and the way audio-visual distances are measured."""

    faces: "FaceDetector"
    sync: "Callable[[FaceTrack, np.ndarray], Sync | None]"
    threads: int = 0
    """For decoding; 0 leaves it to libav."""


def build_tools(config: Config, threads: int | None = None, owner: "Address | None" = None) -> Tools:
    """The networks that the configuration names, or the way to those of an `owner`; weights are never random."""
    import cv2

    cv2.setNumThreads(threads or 0)
    device = link = None
    if needs_torch(config):
        import torch

        from visavox.compute import resolve_device
        from visavox.owner import Link

        torch.set_num_threads(threads or torch.get_num_threads())
        link = Link(owner) if owner else None
        device = None if owner else resolve_device(config.device)
    return Tools(_build_faces(config, device, link), _build_sync(config, device, link), threads or 0)


@contextmanager
def owned_networks(config: Config, wanted: bool = True) -> "Iterator[Address | None]":
    """On a GPU, this process computes for all workers: where they find it. None: each builds its own."""
    from visavox import owner

    if not (wanted and needs_torch(config) and owner.has_gpu(config.device)):
        yield None
        return
    from visavox.compute import resolve_device

    device = resolve_device(config.device)
    faces = None if config.face_detector == "haar" else _build_faces(config, device)
    embedder = _embedder(config, device) if config.sync == "syncnet" else None
    with owner.serve(faces, embedder) as address:
        yield address


def check_tools(config: Config) -> None:
    """Fetch or verify the weights before any worker starts, so that what is missing is said once."""
    from visavox import weights

    for name in weights_of(config):
        weights.resolve(name)


def weights_of(config: Config) -> list[str]:
    """Registry names of the weights that cropping with these settings uses."""
    used = [] if config.face_detector == "haar" else [config.face_detector]
    return used + (["syncnet_v2"] if config.sync == "syncnet" else [])


def needs_torch(config: Config) -> bool:
    return bool(weights_of(config))


def crop_task(config: Config, tools: Tools, task: Task) -> dict[str, Any]:
    """One row of the manifest: kept, made, or why not. Every fault of a video ends here, with its message."""
    from visavox import preview

    watch = Stopwatch()
    source = None
    try:
        if task.path.is_file():
            source = sha256_of(task.path)
        if source and (status := _status_if_fits(task.bundle, task.prep_hash, source)):
            return task.row(status, "", {"total": watch.total()}, source_sha256=source, kept=True)
        bundle = crop_video(
            task.path,
            faces=tools.faces,
            sync=tools.sync,
            config=config,
            watch=watch,
            threads=tools.threads,
            source_sha256=source,
        )
        task.bundle.parent.mkdir(parents=True, exist_ok=True)
        with watch("save"):
            bundle.save(task.bundle)
        with watch("preview"):
            if task.save_image:
                preview.save_image(bundle, task.bundle.with_suffix(f"{PREVIEW}.png"))
            if task.save_avi:
                preview.save_avi(bundle, task.bundle.with_suffix(f"{PREVIEW}.avi"), config.resample_rate)
    except Exception as error:  # the row is the answer: nothing a video does may stop the others
        status, reason = explain(error)
        return task.row(status, reason, watch.seconds | {"total": watch.total()}, source_sha256=source)
    notes = bundle.notes.split("\n") if bundle.notes else []
    seconds = watch.seconds | {"total": watch.total()}
    return task.row(bundle.status, "", seconds, source_sha256=source, notes=notes, frames=bundle.track_frames)


def _build_faces(config: Config, device: Any, link: "Link | None" = None) -> "FaceDetector":
    if config.face_detector == "haar":
        from visavox.faces import HaarDetector

        return HaarDetector(max_size=config.face_max_size, threshold=config.face_threshold)
    from retinaface.detector import PUBLISHED_PREPROCESSING, RetinaFaceDetector, fitted

    network = config.face_detector.removeprefix("retinaface_")
    if link:
        from visavox.owner import RemoteFaces

        least = PUBLISHED_PREPROCESSING[network].min_size
        fit = partial(fitted, max_size=config.face_max_size, min_size=least)
        return RemoteFaces(link, config.face_detector, RetinaFaceDetector.landmark_source, fit)
    from visavox import weights
    from visavox.compute import dtype_of

    return RetinaFaceDetector(
        network,
        weights.state_dict(config.face_detector),
        max_size=config.face_max_size,
        threshold=config.face_threshold,
        device=device,
        dtype=dtype_of(config.crop_precision),
    )


def _build_sync(
    config: Config, device: Any, link: "Link | None" = None
) -> "Callable[[FaceTrack, np.ndarray], Sync | None]":
    if config.sync == "syncnet":
        import SyncNetModel
        from visavox.owner import RemoteEmbedder

        embedder = RemoteEmbedder(link) if link else _embedder(config, device)
        return lambda track, sound, stride=config.sync_stride: SyncNetModel.sync_distances(
            embedder, track.crops, sound, vshift=config.vshift, pad=config.sync_pad, stride=stride
        )
    from visavox.sync import correlation_sync

    return lambda track, sound, stride=1: correlation_sync(  # it has no windows to leave out
        track.crops, track.landmarks, sound, config.resample_rate, vshift=config.vshift
    )


def _embedder(config: Config, device: Any) -> "SyncNetModel.LocalEmbedder":
    import SyncNetModel
    from visavox import weights
    from visavox.compute import dtype_of

    published = SyncNetModel.load(weights.state_dict("syncnet_v2"))
    return SyncNetModel.LocalEmbedder(SyncNetModel.FoldedSyncNet(published, dtype_of(config.crop_precision)).to(device))


def _status_if_fits(bundle: Path, prep_hash: str, source_sha256: str) -> str | None:
    """The status of a bundle that was made of this video with these settings, or None."""
    from visavox.bundle import BundleError, read_stamp

    if not bundle.is_file():
        return None
    try:
        stamp = read_stamp(bundle)
    except BundleError:
        return None
    return stamp.status if (stamp.prep_hash, stamp.source_sha256) == (prep_hash, source_sha256) else None


def _report(rows: Sequence[dict[str, Any]], output: Path) -> int:
    counts = Counter(row["status"] for row in rows)
    lost = [row for row in rows if row["bundle"] is None]
    for row in lost:
        print(f"  {row['status']:9} {row['input']}: {row['reason']}", file=sys.stderr)
    kept = sum(bool(row.get("kept")) for row in rows)
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print(f"{len(rows)} inputs: {summary}; {kept} kept from before; {output / MANIFEST}")
    return 1 if lost else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="crop.py",
        description=__doc__,
        epilog=f"settings (key=value, after the options):\n{configuration.help_text()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--input", "-input", type=Path, required=True, help="folder of videos (searched below), or one video"
    )
    parser.add_argument(
        "--output", "-output", type=Path, required=True, help="folder for the bundles and manifest.jsonl"
    )
    parser.add_argument("--workers", type=_positive, default=4, help="processes (default 4)")
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds after which a video is given up (default 600)"
    )
    parser.add_argument(
        "--save-image", action="store_true", help="also write NAME.preview.png: faces, mel images, sync curve"
    )
    parser.add_argument(
        "--save-avi", action="store_true", help="also write NAME.preview.avi: the face track with its sound"
    )
    parser.add_argument(
        "--config", type=Path, default=Path(__file__).with_name("config.json"), help="JSON configuration"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the configuration"
    )
    return parser.parse_intermixed_args(argv)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
