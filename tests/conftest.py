"""What the tests share: small valid bundles, and the way to real clips and trained weights where they are at hand."""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the Makefile does: threads that wait do not spin

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.config import Config
from visavox.preprocessing.provenance import prep_hash

THREADS = 2
torch.set_num_threads(THREADS)
for library in ("OMP", "MKL"):  # of programs that tests start: bits of a sum depend on the number of threads
    os.environ[f"{library}_NUM_THREADS"] = str(THREADS)
cv2.setNumThreads(1)
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell that starts the tests in the background has it ignored

CHECKOUT = Path(__file__).parents[1]
TINY = ["--config", str(CHECKOUT / "configs/tiny.json")]
BACKBONES = ["--video-backbone=marlin_vit_tiny", "--audio-backbone=eat_tiny", "--steps=8", "--weights=random"]
"""Of `visavox features`: small networks of random weights."""
QUICK = ["epoch=3", "train_batch_size=4", "device=cpu"]
LONGEST = (
    "test_fiveway_notebook.py",
    "test_house.py",
    "test_wheel.py",
    "test_bench.py",
    "test_detect.py",
    "test_several_processes.py",
    "test_batch.py",
    "test_notebook.py",
    "test_ray_pool.py",
    "test_pretrain_audio.py",
)
"""Test files that take longest for their few tests: begun first, so that no process is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; with several processes (`make test`) files are handed out in this order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills in the first process of the test run that asks for it; nobody writes to it afterwards."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            half = folder.with_name(f"{name}.{os.getpid()}")
            make(half)
            half.rename(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def threads_as_begun() -> None:
    """Programs that a test runs in this process may set the number of threads; no other module sees it."""
    torch.set_num_threads(THREADS)


@pytest.fixture(scope="module")
def one_thread(threads_as_begun: None) -> Iterator[None]:
    """Networks this small lose more by sharing their work than they gain: `usefixtures("one_thread")` for a module."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """configs/tiny.json: no weights, every size small."""
    return configuration.load(CHECKOUT / "configs" / "tiny.json")


@pytest.fixture(scope="session")
def make_bundle(tiny_config: Config) -> Callable[..., Bundle]:
    """make_bundle(seed=0, config=tiny_config, **changes): a small valid bundle; `changes` replaces members."""

    def make(seed: int = 0, config: Config = tiny_config, **changes: Any) -> Bundle:
        rng = np.random.default_rng(seed)
        K, S, T, V = config.bundle_faces, config.frame_size, 25, 2 * config.vshift + 1
        mdist = rng.uniform(5, 15, V).astype(np.float32)
        jpegs = [cv2.imencode(".jpg", image)[1] for image in rng.integers(0, 256, (T, 16, 16, 3), np.uint8)]
        members = {
            "faces": rng.integers(0, 256, (K, S, S, 3), np.uint8),
            "mel_3cs": rng.uniform(-80, 20, (3, config.freq_num, 101)).astype(np.float16),
            "mdist": mdist,
            "latency": np.float32(mdist.argmin() - config.vshift),
            "conf": np.float32(np.median(mdist) - mdist.min()),
            "boxes": np.tile(np.float32([10, 20, 110, 120]), (T, 1)),
            "landmarks": rng.uniform(0, S, (T, 5, 2)).astype(np.float32),
            "det_score": np.where(np.arange(T) % 16 == 0, np.float32(0.99), np.float32("nan")),
            "times": (np.arange(T) / 25).astype(np.float32),
            "fps": np.float32(25),
            "audio": rng.integers(-3000, 3000, 16000, np.int16),
            "track": np.concatenate(jpegs),
            "track_offsets": np.cumsum([0, *map(len, jpegs)]),
            "status": "ok",
            "sync": config.sync,
            "landmark_source": "template",
            "notes": "",
            "settings": json.dumps(config.prep()),
            "prep_hash": prep_hash(config),
            "source_sha256": hashlib.sha256(str(seed).encode()).hexdigest(),
        } | changes
        return Bundle(**{name: np.asarray(v) if isinstance(v, np.generic) else v for name, v in members.items()})

    return make


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder named by VISAVOX_TEST_DATA, which holds clips/ and weights/."""
    if not os.environ.get("VISAVOX_TEST_DATA"):
        pytest.skip("VISAVOX_TEST_DATA names no folder with clips/ and weights/")
    return Path(os.environ["VISAVOX_TEST_DATA"])


@pytest.fixture(scope="session")
def clips(data_dir: Path) -> Path:
    """Folder of real videos: real/, fake/ and clips.csv."""
    return data_dir / "clips"


@pytest.fixture(scope="session")
def weights_dir(data_dir: Path) -> Path:
    """Folder of trained weights under their registry names."""
    return data_dir / "weights"


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve synthetic talking-face videos of three identities: real/<identity>/*.mp4, fake/<identity>/*.mp4, labels.csv."""
    from visavox.synthetic.dataset import make_dataset

    how = {"identities": 3, "clips_per_identity": 4, "seed": 5, "seconds": (1.6, 2.0), "workers": 1}
    return made_once(tmp_path_factory, "talking", lambda root: make_dataset(root, **how))


@pytest.fixture(scope="session")
def fresh_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fused pair of tiny networks with fresh weights: everything but skill."""
    from visavox.detectors import build
    from visavox.detectors.xception.scorer import join

    torch.manual_seed(0)
    branches = [configuration.load(CHECKOUT / f"configs/xception_{name}_tiny.json") for name in ("video", "audio")]
    scorer = join(*(build.build(config) for config in branches))
    hyper = {"config": scorer.config.model_dump(mode="json"), "about": {"trained_on": "nothing synthetic at all"}}
    path = tmp_path_factory.mktemp("app") / "pair.ckpt"
    torch.save({"hyper_parameters": hyper, "state_dict": scorer.state_dict()}, path)
    return path


@pytest.fixture(scope="session")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sound.mp4 and silent.mp4 with a face, faceless.mp4 without, text.mp4 that is none."""
    from visavox.media import write_video
    from visavox.synthetic.clips import render

    folder = tmp_path_factory.mktemp("uploads")
    clip = render(3, 4, 2.4, 256)
    write_video(folder / "sound.mp4", clip.frames, clip.audio, fps=25)
    write_video(folder / "silent.mp4", clip.frames, None, fps=25)
    write_video(folder / "faceless.mp4", np.full_like(clip.frames, 90), clip.audio, fps=25)
    (folder / "text.mp4").write_text("this is no video\n" * 20)
    return folder


@pytest.fixture(scope="session")
def data(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root_path: the bundles of `talking` and data/split.csv, split by file."""
    from visavox.commands import crop
    from visavox.corpora.__main__ import main as make_split

    def make(root: Path) -> None:
        assert (
            crop.main(["--input", str(talking), "--output", str(root / "data/bundles"), "--workers", "1", *TINY]) == 0
        )
        words = ["folder", "--root", str(root / "data/bundles"), "--output", str(root / "data/split.csv")]
        assert make_split([*words, "--by", "file", "--val", "0.34", "--test", "0.33"]) == 0

    root = tmp_path_factory.mktemp("root")  # runs are written below it
    return shutil.copytree(made_once(tmp_path_factory, "cropped", make), root, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def run(data: Path) -> Path:
    """A finished run of three epochs on `data`."""
    from visavox.commands import train

    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    assert train.main(command(data, "first")) == 0
    torch.set_num_threads(before)
    return data / "runs/first"


def command(data: Path, version: str, *more: str) -> list[str]:
    """Words for train.py: a short tiny run named `version` on the root_path `data`."""
    words = ["--data-version", "split", "--code-version", version, f"root_path={data}", f"runs_path={data / 'runs'}"]
    return [*words, *TINY, *QUICK, *more]
