"""What is right and wrong with an installation, with the cure beside every fault.

    visavox doctor [--json]

Exit codes: 0 nothing is red; 1 something is. Yellow is what works, but not as well as it could, or what comes by itself
at first use (weights). Every check stands alone: what one cannot import costs that line only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

from visavox import weights
from visavox.files import CHECKOUT, shown
from visavox.logs import say
from visavox.weights import REGISTRY, store

GIB = 1 << 30
CGROUP = Path("/sys/fs/cgroup")
INSTALL = "make setup, or: python -m pip install -r requirements.lock && python -m pip install --no-deps -e ."


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    level: str
    """ok, warn (yellow) or bad (red)."""
    what: str
    found: str
    cure: str = ""


def ok(what: str, found: object) -> Finding:
    return Finding("ok", what, str(found))


def warn(what: str, found: object, cure: str) -> Finding:
    return Finding("warn", what, str(found), cure)


def bad(what: str, found: object, cure: str) -> Finding:
    return Finding("bad", what, str(found), cure)


def main(argv: list[str] | None = None) -> int:
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="visavox doctor",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="a list of {level, what, found, cure} instead of the table")
    args = parser.parse_args(argv)
    findings = examine()
    if args.json:
        say(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        show(findings)
    return 1 if any(finding.level == "bad" for finding in findings) else 0


def examine() -> list[Finding]:
    """Every check's findings; a check that falls over is a finding itself."""
    findings = []
    for check in CHECKS:
        try:
            for finding in check():
                findings.append(finding)  # one by one: what a check found before it fell over stays
        except Exception as error:  # a broken installation may fail anywhere; telling where is this program's work
            name = check.__name__.removeprefix("check_")
            cure = INSTALL if isinstance(error, ImportError) else f"find the cause, or report it; then: {INSTALL}"
            findings.append(bad(name, f"{type(error).__name__}: {error}", cure))
    return findings


def show(findings: list[Finding]) -> None:
    """The table on stdout; plain lines where even rich is missing."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        for finding in findings:
            cure = f" -> {finding.cure}" if finding.cure else ""
            say(shown(f"{finding.level:4}  {finding.what}: {finding.found}{cure}"))
        return
    colour = {"ok": "green", "warn": "yellow", "bad": "bold red"}
    table = Table("", "what", "found", "cure", title="visavox doctor")
    for finding in findings:
        cells = (Text(shown(cell, lines=True)) for cell in (finding.what, finding.found, finding.cure))
        table.add_row(Text(finding.level, colour[finding.level]), *cells)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    counts = {level: sum(finding.level == level for finding in findings) for level in colour}
    console.print(f"{counts['bad']} red, {counts['warn']} yellow, {counts['ok']} green")


def check_python() -> Iterator[Finding]:
    """A version that the package declares to work with."""
    from packaging.specifiers import SpecifierSet

    version, (wanted, _) = platform.python_version(), _declared()
    if SpecifierSet(wanted).contains(version, prereleases=True):
        yield ok("Python", f"{version}, {sys.executable}")
    else:
        yield bad("Python", f"{version}, wanted {wanted}", "install Python 3.11 or newer; make PYTHON=python3.11 setup")


def check_requirements() -> Iterator[Finding]:
    """Each runtime dependency is installed, in the range that the package declares."""
    from packaging.requirements import Requirement

    if version := _version("visavox"):
        yield ok("visavox", version)
    else:
        yield warn("visavox", f"not installed, running from {CHECKOUT}", INSTALL)
    for requirement in map(Requirement, _declared()[1]):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = _version(requirement.name)
        cure = f"pip install '{requirement.name}{requirement.specifier}'"
        if installed is None:
            yield bad(requirement.name, f"missing, wanted {requirement.specifier or 'any'}", cure)
        elif not requirement.specifier.contains(installed, prereleases=True):
            yield bad(requirement.name, f"{installed}, wanted {requirement.specifier}", cure)
        else:
            yield ok(requirement.name, installed)


def _declared() -> tuple[str, list[str]]:
    """Python versions and requirements, of the installed package or else of the checkout's pyproject.toml."""
    try:
        package = metadata.metadata("visavox")
    except metadata.PackageNotFoundError:
        import tomllib

        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        return project["requires-python"], project["dependencies"]
    return package["Requires-Python"], package.get_all("Requires-Dist") or []


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


BRING_OPENCV_5 = ("mediapipe", "uniface", "insightface", "marlin-pytorch")
"""Packages whose present releases depend on an OpenCV without the cascades that `face_detector=haar` reads."""


def check_dangerous_packages() -> Iterator[Finding]:
    """Releases known to be malicious, and packages that overwrite ours. Their metadata is read, never their code."""
    for name in ("lightning", "pytorch-lightning"):  # advisory GHSA-w37p-236h-pfx3: the payload runs at import
        if (version := _version(name)) in ("2.6.2", "2.6.3"):
            yield bad(
                name,
                f"{version} is a malicious release that steals credentials",
                f"pip uninstall {name}; change every password and token of this machine; then {INSTALL}",
            )
    if _version("retinaface-pytorch"):
        found = "installs another package called retinaface"
        yield bad("retinaface-pytorch", found, "pip uninstall retinaface-pytorch; ours lies in the checkout")
    if _version("opencv-python") and _version("opencv-python-headless"):
        cure = "pip uninstall opencv-python opencv-python-headless; pip install 'opencv-python-headless>=4.10,<5'"
        yield warn("opencv", "opencv-python and opencv-python-headless share one folder, cv2/", cure)
    for name in ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"):
        if (version := _version(name)) and version.split(".")[0] == "5":
            bringers = [each for each in BRING_OPENCV_5 if _version(each)]
            whose = f", which {' and '.join(bringers)} may have brought" if bringers else ""
            cure = f"pip uninstall {name}; pip install --force-reinstall -c constraints.txt opencv-python-headless"
            yield bad(name, f"{version} takes the place of OpenCV 4 and has no face cascades{whose}", cure)
    ours = CHECKOUT / "retinaface"
    spec = importlib.util.find_spec("retinaface")
    where = Path(spec.origin).parent if spec and spec.origin else None
    if ours.is_dir() and where and where != ours:
        yield bad(
            "retinaface", f"import finds {where}, not {ours}", f"run from {CHECKOUT}; uninstall the other package"
        )
    else:
        yield ok("retinaface", where or "not on the path (the flat files run from the checkout)")


def check_torch() -> Iterator[Finding]:
    """torch and torchvision belong together: its compiled operators answer."""
    import torch

    yield ok("torch build", f"{torch.__version__}, {torch.get_num_threads()} threads")
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    pair = f"torch {torch.__version__} with torchvision {_version('torchvision')}"
    cure = "pip install --force-reinstall the pair of requirements.lock (torchvision 0.N belongs to torch 2.(N-15))"
    try:
        import torchvision  # a wrong pair may fail here already

        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        yield bad("torchvision.ops.nms", f"{pair}: {str(error).splitlines()[0]}", cure)
        return
    yield ok("torchvision.ops.nms", pair) if kept == [0, 2] else bad("torchvision.ops.nms", f"{pair}: {kept}", cure)


def check_gpu() -> Iterator[Finding]:
    """A GPU that torch can use, or why not; bfloat16 where the arithmetic is in hardware."""
    import torch

    flags = _cpu_flags()
    fast = sorted(flags & {"amx_bf16", "avx512_bf16", "bf16"})
    yield ok("bf16 on the CPU", ", ".join(fast) if fast else "no hardware for it; fp32 is faster here")
    if not torch.cuda.is_available():
        driver = Path("/proc/driver/nvidia/version")
        if driver.exists() and torch.version.cuda is None:
            yield warn(
                "CUDA", "there is a GPU, but torch is a CPU build", "install torch from download.pytorch.org/whl/cu*"
            )
        elif driver.exists():
            found = f"there is a driver, but torch (CUDA {torch.version.cuda}) cannot use it"
            yield warn("CUDA", found, "compare `nvidia-smi` with torch's CUDA; update the driver; CUDA_VISIBLE_DEVICES")
        else:
            yield ok("CUDA", "no GPU; device=auto means cpu")
        return
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        found = (
            f"{card.name}, {card.total_memory / GIB:.0f} GiB, sm_{card.major}{card.minor}, CUDA {torch.version.cuda}"
        )
        try:
            torch.ones(8, 8, device=f"cuda:{index}").mm(torch.ones(8, 8, device=f"cuda:{index}")).sum().item()
        except RuntimeError as error:
            cure = f"torch was built for {torch.cuda.get_arch_list()}: install a build for this GPU, or set device=cpu"
            yield bad(f"cuda:{index}", f"{found}: {str(error).splitlines()[0]}", cure)
            continue
        bf16 = "bf16 in hardware" if card.major >= 8 else "no bf16 in hardware (needs sm_80)"
        yield ok(f"cuda:{index}", f"{found}, {bf16}")


def _cpu_flags() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    return {flag for key, _, value in lines if key.strip() in ("flags", "Features") for flag in value.split()}


def check_media() -> Iterator[Finding]:
    """The codecs that real clips need, in the libav that PyAV brings."""
    import av

    wanted = {"r": ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "vp9", "aac", "mp3"), "w": ("libx264", "aac")}
    missing = [f"{name} ({mode})" for mode, names in wanted.items() for name in names if not _codec(av, name, mode)]
    version = f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
    if missing:
        cure = "pip install --force-reinstall --only-binary av 'av>=18' (the wheel brings its own libav)"
        yield bad("libav", f"{version}, without {', '.join(missing)}", cure)
    else:
        yield ok("libav", f"{version}: h264, hevc, mpeg, aac; libx264 for writing")


def check_media_limits() -> Iterator[Finding]:
    """What a media file may ask for before it is refused."""
    from visavox.media.limits import LIMITS

    for name, value in LIMITS.in_words().items():
        yield ok(f"limit: {name}", value)


def check_confinement() -> Iterator[Finding]:
    """What the decoder can be kept from on this system."""
    from visavox.media.confined import sandbox

    found = sandbox.offered()
    for layer in sandbox.LAYERS:
        if layer in found:
            yield ok(f"confined decoder: {layer}", found[layer])
        else:
            cure = "Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK and CONFIG_SECCOMP_FILTER, on x86_64 or aarch64"
            yield warn(
                f"confined decoder: {layer}", "not offered by this system; videos are decoded with more rights", cure
            )


def _codec(av: ModuleType, name: str, mode: str) -> bool:
    try:
        av.codec.Codec(name, mode)
    except ValueError:  # av.codec.codec.UnknownCodecError
        return False
    return True


def check_cascades() -> Iterator[Finding]:
    """The face cascades that OpenCV 4 bundles (5 dropped them)."""
    import cv2
    from cv2.data import haarcascades

    cascade = Path(haarcascades) / "haarcascade_frontalface_default.xml"
    cure = "pip install --force-reinstall 'opencv-python-headless>=4.10,<5'"
    if not cascade.is_file() or cv2.CascadeClassifier(str(cascade)).empty():
        yield bad("Haar cascades", f"OpenCV {cv2.__version__} lacks {cascade}", cure)
    else:
        yield ok("Haar cascades", f"OpenCV {cv2.__version__}")


def check_weights() -> Iterator[Finding]:
    """What lies in the weights folder is what the registry says; what is missing can be fetched."""
    yield ok("weights folder", weights.folder())
    for entry in REGISTRY.values():
        path = weights.folder() / entry.file
        fetch = f"visavox weights fetch {entry.name}"
        if not path.exists():
            found = "not here; to be downloaded by hand" if entry.manual else "not here; comes at first use"
            yield warn(entry.name, found, f"{fetch} (offline: add --from-dir DIR)")
        elif wrong := store.complaint(entry, path):
            yield bad(entry.name, f"{path} {wrong}", f"rm {path}; {fetch}")
        else:
            yield ok(entry.name, "verified" if entry.sha256 else f"here, sha256 {store.sum_known(entry)}")


def check_folders() -> Iterator[Finding]:
    """Room and the right to write, where bundles, runs and weights go."""
    for what, folder in (("this folder", Path.cwd()), ("runs", Path.cwd() / "runs"), ("weights", weights.folder())):
        there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
        free = shutil.disk_usage(there).free / GIB
        name = f"disk: {what}"
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            cure = "chown or chmod it, or work elsewhere"
            if what == "weights":
                cure = "let VISAVOX_WEIGHTS name a folder that can be written, or have the weights put there"
            level = warn if what == "weights" and folder.is_dir() else bad
            yield level(name, f"{there} cannot be written ({error.strerror})", cure)
            continue
        if free < 1:
            yield bad(name, f"{free:.1f} GiB free in {there}", "make room: a checkpoint alone is about 1 GiB")
        elif free < 10:
            yield warn(name, f"{free:.1f} GiB free in {there}", "make room: bundles, checkpoints and logs want 10 GiB")
        else:
            yield ok(name, f"{free:.0f} GiB free in {there}")


def check_limits() -> Iterator[Finding]:
    """Processors and memory as this process may use them: the container's limits, not the machine's figures."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup("cpu.max", "cpu/cpu.cfs_quota_us").split()
    if quota and quota[0].isdigit():
        period = quota[1] if len(quota) > 1 else _cgroup("cpu.max", "cpu/cpu.cfs_period_us") or "100000"
        cores = min(cores, int(quota[0]) / int(period))
    yield ok("processors", f"{cores:g}; --workers and data-loading workers should not be more")
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _cgroup("memory.max", "memory/memory.limit_in_bytes")
    memory = min(physical, int(limit)) if limit.isdigit() else physical
    if memory < 4 * GIB:
        yield warn("memory", f"{memory / GIB:.1f} GiB", "train with configs/tiny.json only, or raise the limit")
    else:
        yield ok("memory", f"{memory / GIB:.1f} GiB (training the full model on a CPU takes about 12)")
    shared = Path("/dev/shm")
    if shared.is_dir() and (room := shutil.disk_usage(shared).total) < GIB // 4:
        cure = "docker run --shm-size=2g (or --ipc=host); else num_workers=0"
        yield warn("/dev/shm", f"{room >> 20} MiB: data-loading workers hand batches over in it", cure)


def _cgroup(version_2: str, version_1: str) -> str:
    """Content of the limit's file, whichever control-group version is mounted; empty without one."""
    for name in (version_2, version_1):
        if (CGROUP / name).is_file():
            return (CGROUP / name).read_text().strip()
    return ""


def check_environment() -> Iterator[Finding]:
    """Variables that change what importing and fetching do."""
    if os.environ.get("NO_ALBUMENTATIONS_UPDATE", "").lower() in ("1", "true"):
        yield ok("NO_ALBUMENTATIONS_UPDATE", "set")
    else:
        found = "not set: albumentations asks the network for its newest version when imported by itself"
        yield warn("NO_ALBUMENTATIONS_UPDATE", found, "export NO_ALBUMENTATIONS_UPDATE=1")
    shut = [name for name in ("VISAVOX_OFFLINE", "HF_HUB_OFFLINE") if os.environ.get(name)]
    yield ok("network", f"{', '.join(shut)} set" if shut else "open to fetch weights at first use")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_requirements,
    check_dangerous_packages,
    check_torch,
    check_gpu,
    check_media,
    check_media_limits,
    check_confinement,
    check_cascades,
    check_weights,
    check_folders,
    check_limits,
    check_environment,
)

if __name__ == "__main__":
    sys.exit(main())
