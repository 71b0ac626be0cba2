"""The doctor finds nothing red in the tested installation, and finds each fault that is put in."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from visavox import doctor
from visavox.weights import REGISTRY

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def versions(monkeypatch):
    """Change what is installed, for importlib.metadata: versions["torch"] = "2.0.0", or None for missing."""
    changed, real = {}, metadata.version

    def version(name):
        found = changed.get(name, "")
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found or real(name)

    monkeypatch.setattr(metadata, "version", version)
    return changed


def the(check, what: str) -> doctor.Finding:
    return next(finding for finding in check() if finding.what == what)


def test_this_installation_has_no_red_line_and_every_other_colour_has_its_cure(folder):
    findings = doctor.examine()
    assert [finding for finding in findings if finding.level == "bad"] == []
    assert all(finding.cure for finding in findings if finding.level != "ok")
    names = {finding.what for finding in findings}
    assert names >= {"Python", "torch", "torchvision.ops.nms", "libav", "Haar cascades", "memory", *REGISTRY}


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
@pytest.mark.parametrize("name", ["lightning", "pytorch-lightning"])
def test_a_malicious_release_is_red(versions, name, version):
    versions[name] = version
    finding = the(doctor.check_dangerous_packages, name)
    assert finding.level == "bad"
    assert "password" in finding.cure


def test_an_opencv_5_is_red_and_names_who_brings_it(versions):
    assert not [each for each in doctor.check_dangerous_packages() if each.what.startswith("opencv-contrib")]
    versions |= {"opencv-contrib-python": "5.0.0.88", "mediapipe": "1.0.1"}
    finding = the(doctor.check_dangerous_packages, "opencv-contrib-python")
    assert (
        finding.level == "bad" and "mediapipe may have brought" in finding.found and "constraints.txt" in finding.cure
    )
    versions["opencv-contrib-python"] = "4.12.0"
    assert not [each for each in doctor.check_dangerous_packages() if each.what == "opencv-contrib-python"]


def test_versions_outside_the_declared_range_and_missing_packages_are_red(versions):
    versions |= {"torch": "2.0.1", "einops": None, "opencv-python-headless": "5.0.0"}
    assert the(doctor.check_requirements, "torch").found == "2.0.1, wanted >=2.10"
    assert the(doctor.check_requirements, "einops").found.startswith("missing")
    assert the(doctor.check_requirements, "opencv-python-headless").level == "bad"
    assert the(doctor.check_requirements, "einops").cure == "pip install 'einops>=0.8'"
    assert "pytest" not in {finding.what for finding in doctor.check_requirements()}


def test_an_old_python_is_red(monkeypatch):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.4")
    assert the(doctor.check_python, "Python").level == "bad"


def test_the_package_that_shadows_ours_is_red(versions):
    versions["retinaface-pytorch"] = "0.0.8"
    assert "pip uninstall retinaface-pytorch" in the(doctor.check_dangerous_packages, "retinaface-pytorch").cure


def test_a_torchvision_of_another_torch_is_red(monkeypatch):
    import torchvision

    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    finding = the(doctor.check_torch, "torchvision.ops.nms")
    assert finding.level == "bad"
    assert "does not exist" in finding.found


@pytest.mark.parametrize("module", ["torch", "torchvision", "av", "cv2", "packaging.requirements", "rich.table"])
def test_a_missing_module_costs_its_lines_and_no_more(monkeypatch, folder, capsys, module):
    monkeypatch.setitem(sys.modules, module, None)
    code = doctor.main([])
    out = capsys.readouterr().out
    assert all(word in out for word in ("Python", "syncnet_v2", "memory"))
    assert code == (0 if module == "rich.table" else 1)


def test_missing_weights_are_yellow_and_wrong_ones_red(folder):
    assert {the(doctor.check_weights, name).level for name in REGISTRY} == {"warn"}
    (folder / REGISTRY["syncnet_v2"].file).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    finding = the(doctor.check_weights, "syncnet_v2")
    assert finding.level == "bad"
    assert "Git-LFS" in finding.found
    assert "weights fetch syncnet_v2" in finding.cure


def test_a_libav_without_h264_and_an_opencv_without_cascades_are_red(monkeypatch, tmp_path):
    import cv2

    monkeypatch.setattr(doctor, "_codec", lambda av, name, mode: name != "h264")
    assert "without h264 (r)" in the(doctor.check_media, "libav").found
    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path))
    assert the(doctor.check_cascades, "Haar cascades").level == "bad"


def test_an_unknown_codec_is_known_as_such():
    import av

    assert not doctor._codec(av, "no_such_codec", "r")


@pytest.mark.parametrize(("free", "level"), [(1 << 28, "bad"), (5 << 30, "warn"), (1 << 40, "ok")])
def test_the_disk_has_room_or_not(monkeypatch, folder, free, level):
    usage = doctor.shutil.disk_usage("/")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=free))
    assert {finding.level for finding in doctor.check_folders()} == {level}


def test_a_folder_that_cannot_be_written_is_red(monkeypatch, folder):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert the(doctor.check_folders, "disk: this folder").level == "bad"
    assert the(doctor.check_folders, "disk: weights").level == "warn"  # a read-only folder of weights serves


def test_a_container_has_the_limits_of_its_control_group(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2 << 30}\n")
    assert the(doctor.check_limits, "processors").found.startswith("0.5;")
    assert the(doctor.check_limits, "memory").level == "warn"
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert not the(doctor.check_limits, "processors").found.startswith("0.5;")
    assert the(doctor.check_limits, "memory").found != "2.0 GiB"


def test_albumentations_asking_the_network_is_yellow(monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    assert the(doctor.check_environment, "NO_ALBUMENTATIONS_UPDATE").level == "ok"
    monkeypatch.delenv("NO_ALBUMENTATIONS_UPDATE")
    assert the(doctor.check_environment, "NO_ALBUMENTATIONS_UPDATE").level == "warn"


def test_json_and_exit_codes(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([doctor.ok("a", 1)]),))
    assert doctor.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"level": "ok", "what": "a", "found": "1", "cure": ""}]
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([doctor.warn("a", 1, "x")]), doctor.check_python))
    assert doctor.main(["--json"]) == 0
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([doctor.bad("a", 1, "x")]),))
    assert doctor.main([]) == 1


def test_help_imports_nothing_heavy():
    program = [sys.executable, "-X", "importtime", "-m", "visavox.doctor", "--help"]
    run = subprocess.run(program, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0
    assert "--json" in run.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.stderr.splitlines() if "|" in line}
    assert "visavox" in imported
    assert not imported & {"torch", "numpy", "pandas", "cv2", "av", "pydantic", "pytorch_lightning", "sklearn"}


def test_the_limits_of_media_are_shown():
    shown = {finding.what: finding.found for finding in doctor.check_media_limits()}
    assert shown["limit: fps"] == "240 frames a second" and shown["limit: streams"] == "32 streams"
