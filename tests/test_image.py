"""The submission image, without an engine: the Dockerfile's steps are carried out in a clean folder, then its entry command.

Of the image's own operating system nothing is here: `python` is this environment's, and installing packages is left out.
"""

import ast
import csv
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from visavox.detectors import build as build_module

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


@dataclass
class Stage:
    """A build stage: its files below `root`, and what its instructions have set."""

    root: Path
    folder: PurePosixPath = PurePosixPath("/")
    env: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Where a path of the image lies here."""
        return self.root / (self.folder / name).relative_to("/")

    def here(self, text: str) -> str:
        """A text with the image's paths turned into those of this machine."""
        return re.sub(r"(?<![\w.])/(?=(app|data)\b)", f"{self.root}/", text)

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command with the image's environment and nothing else of ours but the installed packages."""
        return subprocess.run(words, cwd=self.path("."), env=self.variables(), capture_output=True, text=True)

    def variables(self) -> dict[str, str]:
        """The image's environment, with the packages that are installed here."""
        env = {key: self.here(value) for key, value in self.env.items()}
        path = f"{python_alone(self.root.parent)}:{os.defpath}"
        nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
        packages = os.pathsep.join(entry for entry in sys.path if entry.endswith("-packages"))
        return env | nowhere | {"PATH": path, "PYTHONPATH": packages}


def python_alone(folder: Path) -> Path:
    """A folder with a `python` that has this environment's packages, but not the checkout it is installed from (-S)."""
    python = folder / "bin" / "python"
    if not python.exists():
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S "$@"\n')
        python.chmod(0o755)
    return python.parent


def build(context: Path, work: Path, dockerfile: str = DOCKERFILE) -> Stage:
    """Carry out a Dockerfile's steps below `work`; the last stage."""
    stages: dict[str, Stage] = {}
    stage = Stage(work)
    for keyword, text in instructions(dockerfile):
        match keyword, shlex.split(text):
            case "FROM", [base, *alias]:
                stage = Stage(work / f"stage{len(stages)}")
                stages[alias[1] if alias else "image"] = stage
                if base in stages:
                    stage.folder, stage.env = stages[base].folder, dict(stages[base].env)
                    shutil.copytree(stages[base].root, stage.root)
                else:
                    stage.root.mkdir()
            case "WORKDIR", [folder]:
                stage.folder = PurePosixPath(folder)
                stage.path(".").mkdir(parents=True)
            case "ENV", pairs:
                stage.env |= dict(pair.split("=", 1) for pair in pairs)
            case "COPY", words:
                options = dict(word.split("=", 1) for word in words if word.startswith("--"))
                *sources, target = [word for word in words if not word.startswith("--")]
                for source in sources:
                    copy(source, target, stage, stages.get(options.get("--from", "")), context)
            case "RUN", ["pip", "install", *_]:
                pass
            case (("ARG" | "VOLUME" | "EXPOSE"), _):
                pass
            case "RUN", ["install", "-d", "-o", _, "-g", _, folder]:  # owners need root
                stage.path(folder).mkdir()
            case "RUN", _:
                done = stage.run(["sh", "-c", stage.here(text)])
                assert done.returncode == 0, f"RUN {text}\n{done.stderr}"
            case "ENTRYPOINT", _:
                stage.entrypoint = json.loads(text)
            case "CMD", _:
                stage.command = json.loads(text)
            case "HEALTHCHECK", _:
                stage.health = json.loads(text.partition("CMD ")[2])
            case "USER", [user]:
                stage.user = user
            case _:
                raise ValueError(f"{keyword}: this test does not know how to carry it out")
    return stage


def instructions(text: str) -> list[tuple[str, str]]:
    """(keyword, rest) of every instruction, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def copy(source: str, target: str, to: Stage, from_stage: Stage | None, context: Path) -> None:
    """One source of a COPY: a file, what a folder holds, or a pattern, which alone may match nothing."""
    base = from_stage.root if from_stage else context
    matches = sorted(base.glob(source.strip("/")))
    assert matches or "*" in source, f"COPY {source}: not in the build context"
    for match in matches:
        if match.is_dir():
            files = [path for path in match.rglob("*") if path.is_file()]
            place = {path: to.path(target) / path.relative_to(match) for path in files}
        else:
            place = {match: to.path(target) / match.name}
        for path, goal in place.items():
            if from_stage or not ignored(path.relative_to(context)):
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, goal)
            else:
                assert match.is_dir(), f"COPY {source}: kept out by .dockerignore"


def ignored(path: Path) -> bool:
    """Whether .dockerignore keeps a file out of the build: the last line that matches it, or a folder above it, decides."""
    names = [path.as_posix(), *(parent.as_posix() for parent in path.parents)]
    out = False
    for line in IGNORED:
        pattern = line.removeprefix("!")
        patterns = [pattern, pattern.removeprefix("**/")]
        if any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns):
            out = not line.startswith("!")
    return out


@pytest.fixture(scope="module")
def context(tiny_config, make_bundle, tmp_path_factory) -> Path:
    """A checkout with a model.ckpt of the tiny configuration, which needs no weights."""
    context = tmp_path_factory.mktemp("context")
    for name in ("requirements.lock", "visavox", "retinaface", *(path.name for path in ROOT.glob("*.py"))):
        (context / name).symlink_to(ROOT / name)
    save_checkpoint(context / "model.ckpt", tiny_config, [make_bundle(seed) for seed in range(3)])
    return context


def save_checkpoint(path: Path, config, bundles) -> None:
    """What train.py leaves, without the training."""
    torch.manual_seed(0)
    detector = build_module.build(config)
    detector.fit_inputs(bundles)
    torch.save({"state_dict": detector.state_dict(), "hyper_parameters": dict(detector.hparams)}, path)


@pytest.fixture(scope="module")
def image(context: Path, tmp_path_factory) -> Stage:
    return build(context, tmp_path_factory.mktemp("image"))


def test_the_entry_command_scores_a_folder_offline(image: Stage, talking: Path):
    videos, output = image.root / "data/input", image.root / "data/output"
    videos.mkdir()
    for path in sorted(talking.rglob("*.mp4"))[::5]:
        os.link(path, videos / path.name)
    (videos / "broken.mp4").write_text("no video")
    before = files(image.root)
    arguments = ["-input", "/data/input/", "-output", "/data/output/submission.csv"]
    done = image.run([image.here(word) for word in [*image.entrypoint, *arguments]])
    assert done.returncode == 0, done.stderr
    with (output / "submission.csv").open(newline="") as file:
        rows = {row["filename"]: float(row["probability"]) for row in csv.DictReader(file)}
    assert list(rows) == sorted(path.name for path in videos.iterdir())
    assert rows.pop("broken.mp4") == 0.5 and all(0 < p < 1 and p != 0.5 for p in rows.values())
    written = {path.relative_to(image.root).as_posix() for path in files(image.root) - before}
    assert written == {"data/output/submission.csv", "data/output/submission.details.jsonl"}
    assert image.env["VISAVOX_OFFLINE"] == "1" and image.env["NO_ALBUMENTATIONS_UPDATE"] == "1"


def test_everything_that_scoring_may_import_is_in_the_image(image: Stage):
    """The tiny configuration needs neither RetinaFace nor SyncNet; the default one does."""
    needed = first_party("eval")
    assert {
        "visavox/preprocessing/pipeline.py",
        "visavox/features/syncnet.py",
        "visavox/faces/retinaface/network.py",
    } <= needed
    assert not {name for name in needed if not image.path(name).is_file()}
    assert not list(image.root.rglob("__pycache__")) and not list(image.root.rglob("*.part"))


def test_no_image_without_a_checkpoint_or_its_weights(context: Path, tiny_config, make_bundle, tmp_path: Path):
    other = tmp_path / "context"
    shutil.copytree(context, other, symlinks=True)
    (other / "model.ckpt").unlink()
    (tmp_path / "a").mkdir()
    with pytest.raises(AssertionError, match=r"COPY model\.ckpt: not in the build context"):
        build(other, tmp_path / "a")
    config = tiny_config.model_copy(update={"face_detector": "retinaface_mobilenet0.25"})
    save_checkpoint(other / "model.ckpt", config, [make_bundle()])
    (other / "weights").mkdir()
    (other / "weights/retinaface_mobilenet0.25.pth").write_bytes(np.zeros(1000, np.uint8).tobytes())
    (tmp_path / "b").mkdir()
    with pytest.raises(AssertionError, match=r"retinaface_mobilenet0\.25\.pth has 1,000 bytes, expected 1,789,735"):
        build(other, tmp_path / "b")


@pytest.mark.data
def test_weights_are_baked_but_only_those_that_the_checkpoint_needs(
    context: Path, weights_dir: Path, tiny_config, make_bundle, tmp_path: Path
):
    other = tmp_path / "context"
    shutil.copytree(context, other, symlinks=True)
    shutil.copytree(weights_dir, other / "weights")
    (other / "weights/unneeded.pth").write_bytes(b"0" * 1000)
    config = tiny_config.model_copy(update={"face_detector": "retinaface_mobilenet0.25"})
    save_checkpoint(other / "model.ckpt", config, [make_bundle()])
    (tmp_path / "work").mkdir()
    image = build(other, tmp_path / "work")
    assert [path.name for path in image.path("weights").iterdir()] == ["retinaface_mobilenet0.25.pth"]


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def first_party(module: str) -> set[str]:
    """Files of this checkout that a flat module imports, at any depth of the code and of the imports."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop().replace(".", "/")
        for file in (f"{name}.py", f"{name}/__init__.py"):
            if file in found or not (ROOT / file).is_file():
                continue
            found.add(file)
            for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    waiting += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    package = PurePosixPath(file).parent.as_posix().replace("/", ".")
                    origin = f"{package}.{node.module or ''}".rstrip(".") if node.level else node.module
                    waiting += [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return found
