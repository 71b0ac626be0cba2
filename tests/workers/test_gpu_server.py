"""The server of networks: workers get the answers they would have computed themselves, whatever others request."""

import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Client as Connect
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.faces.test_retinaface import seeded_weights
from visavox import config as configuration
from visavox import weights
from visavox.bundle import Bundle
from visavox.commands import crop
from visavox.commands.scoring import score_inputs
from visavox.faces import Detections, HaarDetector
from visavox.faces.retinaface.detector import BGR_MEAN, RetinaFaceDetector, fitted
from visavox.features import syncnet
from visavox.files import find_inputs
from visavox.preprocessing import tools
from visavox.preprocessing.pipeline import Preprocessor
from visavox.workers import gpu_server
from visavox.workers.gpu_server import Client, RemoteEmbedder, RemoteFaces, Request, ServerError

BAD = 13


class Fake:
    """A detector that answers with each frame's first pixel as a score, and fails on BAD ones."""

    name, landmark_source = "fake", "template"

    def __init__(self):
        self.batches: list[int] = []

    def detect(self, frames):
        self.batches.append(len(frames))
        if any(frame[0, 0, 0] == BAD for frame in frames):
            raise ValueError("unlucky")
        return [Detections(np.zeros((1, 4)), np.float32([frame[0, 0, 0]]), np.zeros((1, 5, 2))) for frame in frames]


def remote(address) -> RemoteFaces:
    return RemoteFaces(Client(address), "fake", "template", lambda frame: frame)


def grey(value: int, size: int = 4) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def answered_together(fake: Fake, requests: list[list[np.ndarray]]) -> list[Future]:
    """The answers to requests that all lie there when the server looks."""
    requests_ = [Request("faces", (frames,), Future()) for frames in requests]
    asked: queue.SimpleQueue = queue.SimpleQueue()
    for ask in (*requests_, None):
        asked.put(ask)
    gpu_server._compute(asked, fake, None)
    return [ask.answer for ask in requests_]


def scores(found: list[Detections]) -> list[float]:
    return [float(one.scores[0]) for one in found]


def test_frames_of_several_videos_are_one_batch_and_each_gets_its_own():
    fake = Fake()
    answers = answered_together(fake, [[grey(1)], [grey(2), grey(3)], [grey(4, 8)], [grey(5)]])
    assert fake.batches == [5]
    assert [scores(answer.result(0)) for answer in answers] == [[1], [2, 3], [4], [5]]


def test_a_fault_stays_with_the_video_that_has_it():
    first, bad, last = answered_together(Fake(), [[grey(1)], [grey(BAD)], [grey(4)]])
    with pytest.raises(ServerError, match="ValueError: unlucky"):
        bad.result(0)
    assert scores(first.result(0)) + scores(last.result(0)) == [1, 4]


def test_a_fault_reaches_its_worker_and_the_next_request_is_answered():
    with gpu_server.serve(Fake()) as address:
        faces = remote(address)
        with pytest.raises(ServerError, match="ValueError: unlucky"):
            faces.detect([grey(BAD)])
        assert scores(faces.detect([grey(6)])) == [6]


def test_many_workers_at_once_get_each_their_own():
    with gpu_server.serve(Fake()) as address, ThreadPoolExecutor(8) as workers:

        def work(value: int) -> list[float]:
            faces = remote(address)
            return [score for _ in range(20) for score in scores(faces.detect([grey(value), grey(value)]))]

        assert list(workers.map(work, range(20, 28))) == [[value] * 40 for value in range(20, 28)]


def test_a_worker_that_vanishes_costs_nobody_else_anything():
    with gpu_server.serve(Fake()) as address:
        gone = Connect(address.path, authkey=address.key)
        gone.send(("faces", ([grey(1)],)))
        gone.close()
        assert float(remote(address).detect([grey(7)])[0].scores[0]) == 7


def test_a_stranger_without_the_key_is_not_answered():
    with gpu_server.serve(Fake()) as address:
        with pytest.raises(Exception, match="digest"):
            Connect(address.path, authkey=b"guess")
        assert float(remote(address).detect([grey(7)])[0].scores[0]) == 7


def test_a_server_leaves_no_thread_behind():
    with gpu_server.serve(Fake()) as address:
        remote(address).detect([grey(1)])
        assert "gpu server" in {thread.name for thread in threading.enumerate()}
    assert not {"gpu server", "gpu server: listener"} & {thread.name for thread in threading.enumerate()}


def test_a_server_that_is_gone_is_said():
    with gpu_server.serve(Fake()) as address:
        client = Client(address)
    client._connection.close()
    with pytest.raises(ServerError, match="the process that holds the networks is gone"):
        client.request("faces", [grey(1)])


@pytest.mark.parametrize("shape", [(40, 96, 3), (200, 120, 3), (96, 96, 3)])
def test_remote_detections_are_those_of_the_network_itself(shape):
    spec = {"max_size": 96, "threshold": 0.3, "preprocessing": BGR_MEAN}
    local = RetinaFaceDetector("mobilenet0.25", seeded_weights("mobilenet0.25"), **spec)
    frames = list(np.random.default_rng(3).integers(0, 256, (3, *shape), np.uint8))
    with gpu_server.serve(local) as address:
        away = RemoteFaces(Client(address), "", "", partial(fitted, max_size=96, min_size=BGR_MEAN.min_size))
        found, expected = away.detect(frames), local.detect(frames)
        assert away.detect([]) == []
    assert sum(len(one.boxes) for one in expected) > 3
    for mine, its in zip(found, expected, strict=True):
        for a, b in zip(mine.joined()[:3], its.joined()[:3], strict=True):
            np.testing.assert_array_equal(a, b)


def test_remote_distances_are_those_of_the_network_itself():
    torch.manual_seed(0)
    local = syncnet.LocalEmbedder(syncnet.FoldedSyncNet(syncnet.SyncNet().eval()))
    rng = np.random.default_rng(0)
    crops, sound = rng.integers(0, 256, (20, 64, 64, 3), np.uint8), rng.integers(-999, 999, 20 * 640).astype(np.int16)
    with gpu_server.serve(None, local) as address:
        away = RemoteEmbedder(Client(address))
        found = syncnet.sync_distances(away, crops, sound, vshift=3, stride=2)
    np.testing.assert_array_equal(found.mdist, syncnet.sync_distances(local, crops, sound, vshift=3, stride=2).mdist)


@pytest.fixture
def on_a_gpu(monkeypatch) -> configuration.Config:
    """As if there were a GPU: the parent owns the networks, here Haar and a random SyncNet on the CPU."""
    words = ["frame_size=64", "frame_num=4", "bundle_faces=4", "vshift=4", "device=cpu", "max_clip_len=1"]
    config = configuration.load(None, words)
    haar = HaarDetector(max_size=config.face_max_size, threshold=config.face_threshold)
    torch.manual_seed(0)
    state = syncnet.SyncNet().state_dict()
    monkeypatch.setattr(gpu_server, "has_gpu", lambda device: True)
    monkeypatch.setattr(tools, "build_faces", lambda config, device: haar)
    monkeypatch.setattr(weights, "state_dict", lambda name: state)
    return config


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Frames of 320 pixels, which no detector shrinks or enlarges."""
    from visavox.synthetic.dataset import make_dataset

    folder = tmp_path_factory.mktemp("videos")
    make_dataset(folder, identities=2, clips_per_identity=1, seed=1, seconds=(1.6, 1.6), size=320, workers=1)
    return folder


def test_crop_with_a_server_makes_the_bundles_that_it_makes_without(videos: Path, on_a_gpu, tmp_path: Path):
    inputs = find_inputs(videos)
    rows = crop.crop_folder(inputs, tmp_path, on_a_gpu, workers=2, timeout=120)
    assert [row.status for row in rows] == ["ok"] * len(inputs), rows

    cpu = torch.device("cpu")
    preprocess = Preprocessor(on_a_gpu, tools.build_faces(on_a_gpu, cpu), tools.build_sync(on_a_gpu, cpu))
    for row in rows:
        made = Bundle.load(tmp_path / row.bundle)
        alone = preprocess(inputs[row.input])
        for member in ("faces", "boxes", "landmarks"):
            np.testing.assert_array_equal(getattr(made, member), getattr(alone, member), err_msg=member)
        np.testing.assert_allclose(made.mdist, alone.mdist, rtol=1e-5)


class Latencies:
    """A scorer that shows what it was given: P(fake) is a digest of the distances."""

    needs_track = False
    device = torch.device("cpu")

    def __init__(self, config=None):
        self.config = config

    def score(self, bundles):
        return np.array([float(bundle.mdist.mean()) % 1 for bundle in bundles])


def test_eval_with_a_server_gives_the_rows_that_it_gives_without(videos: Path, on_a_gpu, tmp_path: Path):
    inputs = find_inputs(videos)
    settings = {"identity": "test", "workers": 2, "timeout": 120}
    rows = score_inputs(inputs, Latencies(on_a_gpu), on_a_gpu, tmp_path / "scores.csv", **settings)
    cpu = torch.device("cpu")
    preprocess = Preprocessor(on_a_gpu, tools.build_faces(on_a_gpu, cpu), tools.build_sync(on_a_gpu, cpu))
    alone = [preprocess(inputs[row.filename]) for row in rows]
    assert [row.status for row in rows] == ["ok"] * len(inputs), rows
    np.testing.assert_allclose([row.probability for row in rows], Latencies().score(alone), atol=1e-4)
