"""Build what preprocessing needs: the face detector and the audio-visual distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from visavox import weights
from visavox.bundle import Bundle, BundleError
from visavox.config import Config, ConfigError
from visavox.features.sync import correlation_sync
from visavox.workers import gpu_server, memory
from visavox.workers.gpu_server import Client, RemoteEmbedder, RemoteFaces

if TYPE_CHECKING:
    from visavox.bundle import Bundle
    from visavox.faces import FaceDetector
    from visavox.faces.retinaface.network import NetworkName
    from visavox.features import syncnet
    from visavox.features.sync import Sync
    from visavox.workers.gpu_server import Address, Client
from visavox.preprocessing.pipeline import Preprocessor
from visavox.preprocessing.provenance import differing_settings, prep_hash, weights_of


def build(config: Config, threads: int | None = None, server: Address | None = None) -> Preprocessor:
    """Build the networks that the configuration names, or the way to those of a GPU `server`; weights are never random."""
    import cv2

    cv2.setNumThreads(threads or 0)
    device = client = None
    if needs_torch(config):
        import torch

        from visavox.compute import resolve_device

        torch.set_num_threads(threads or torch.get_num_threads())
        client = Client(server) if server else None
        device = None if server else resolve_device(config.device)
    return Preprocessor(config, build_faces(config, device, client), build_sync(config, device, client), threads or 0)


@contextmanager
def gpu_networks(config: Config, wanted: bool = True) -> Iterator[Address | None]:
    """On a GPU, compute in this process for all workers; yield where they find it, or None: each builds its own."""

    if not (wanted and needs_torch(config) and gpu_server.has_gpu(config.device)):
        yield None
        return
    from visavox.compute import resolve_device

    device = resolve_device(config.device)
    faces = None if config.face_detector == "haar" else build_faces(config, device)
    embedder = _embedder(config, device) if config.sync == "syncnet" else None
    with gpu_server.serve(faces, embedder) as address:
        yield address


def bundle_of(path: str | Path, config: Config, preprocess: Callable[[str | Path], Bundle] | None = None) -> Bundle:
    """Return the bundle of a video, or the bundle that lies at the path if it was made with these settings.

    Args:
        preprocess: turns videos into bundles; None builds one of `config`, fetching the weights it needs.

    Raises:
        CropError, MediaError: the video gives no bundle.
        BundleError: the bundle was made with other settings, or is damaged.
    """
    if Path(path).suffix.lower() != ".npz":
        if preprocess is None:
            check_weights(config)
            preprocess = build(config)
        return preprocess(path)

    bundle = Bundle.load(path)
    if bundle.prep_hash != prep_hash(config):
        differences = differing_settings(bundle, config)
        raise BundleError(
            f"{path}: made with other settings than are asked for ({differences}); give the video", "OTHER_SETTINGS"
        )
    return bundle


def check_weights(config: Config) -> None:
    """Fetch or verify the weights before any worker starts, so that what is missing is said once; so is a system that cannot
    confine the decoder as `confine=require` asks.

    Raises:
        ConfigError: confine=require, and the system lacks something for it.
    """
    confine(config.confine)
    for name in weights_of(config):
        weights.resolve(name)
    if config.trim_silence != "none" and config.speech_gate == "silero":
        from visavox.features import speech_net

        speech_net.load()


def confine(how: str) -> None:
    """Where `how` is `require`, have all that this process reads from now on decoded so: what a file declares, its pictures and
    thumbnails as well, and by judges that have no configuration.

    Raises:
        ConfigError: the system lacks something for it.
    """
    from visavox.media import confined

    if how != "require":
        return
    if missing := confined.lacking():
        raise ConfigError(
            f"confine=require: this system cannot confine the decoder, {confined.in_words(missing)}; confine=auto"
        )
    confined.insist()


def needs_torch(config: Config) -> bool:
    return bool(weights_of(config))


def build_faces(config: Config, device: Any, client: Client | None = None) -> FaceDetector:
    if config.face_detector == "haar":
        from visavox.faces import HaarDetector

        return HaarDetector(max_size=config.face_max_size, threshold=config.face_threshold)
    from visavox.faces.retinaface.detector import PUBLISHED_PREPROCESSING, RetinaFaceDetector, fitted

    network = cast("NetworkName", config.face_detector.removeprefix("retinaface_"))
    if client:
        least = PUBLISHED_PREPROCESSING[network].min_size
        fit = partial(fitted, max_size=config.face_max_size, min_size=least)
        return RemoteFaces(client, config.face_detector, RetinaFaceDetector.landmark_source, fit)
    from visavox.compute import dtype_of

    faces = RetinaFaceDetector(
        network,
        weights.state_dict(config.face_detector),
        max_size=config.face_max_size,
        threshold=config.face_threshold,
        device=device,
        dtype=dtype_of(config.crop_precision),
    )
    return memory.FacesWithinMemory(faces) if faces.device.type != "cpu" else faces


def build_sync(config: Config, device: Any, client: Client | None = None) -> Callable[..., Sync | None]:
    if config.sync == "syncnet":
        from visavox.features import syncnet

        embedder = RemoteEmbedder(client) if client else _embedder(config, device)
        return lambda track, sound, stride=config.sync_stride: syncnet.sync_distances(
            embedder, track.crops, sound, vshift=config.vshift, pad=config.sync_pad, stride=stride
        )

    return lambda track, sound, stride=1: correlation_sync(  # it has no windows to leave out
        track.crops, track.landmarks, sound, config.resample_rate, vshift=config.vshift
    )


def _embedder(config: Config, device: Any) -> syncnet.Embedder:
    from visavox.compute import dtype_of
    from visavox.features import syncnet

    published = syncnet.load(weights.state_dict("syncnet_v2"))
    towers = syncnet.LocalEmbedder(syncnet.FoldedSyncNet(published, dtype_of(config.crop_precision)).to(device))
    return memory.EmbedderWithinMemory(towers) if towers.device.type != "cpu" else towers
