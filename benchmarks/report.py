"""The bench's figures as a table, and the machine they hold for."""

import os
import platform
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

PIPELINES = {
    "a": "straightforward (benchmarks/straightforward.py), ResNet50 at 1280 px (enlarged to it) on every 5th frame, fp32",
    "b": "ours, the same networks, resolution (nothing enlarged: at 360p it sees 640 px) and detection step, fp32",
    "b640": "ours, ResNet50 at 640 px with our detection step, fp32",
    "c32": "ours at its defaults (MobileNet0.25 at 640 px, adaptive detection), scoring in fp32 too",
    "c320": "ours with face_max_size=320, scoring in bf16 where the processor has it",
    "c": "ours at its defaults, scoring in bf16 where the processor has it",
    "d": "c with crop_precision=bf16",
    "e": "d with sync_stride=2 (other distances: not equal)",
}
STAGES = ("decode", "detect", "cut", "mel", "sync", "classify 8", "classify 32")


def as_markdown(report: dict[str, Any]) -> str:
    """Markdown with one table from file to logit, one of stages, and the differences between outputs."""
    machine, runs = report["machine"], report["runs"]
    clips = list(dict.fromkeys(run["clip"] for run in runs))
    lines = [
        "# Time per video",
        "",
        f"`{report['command']}` at commit {machine['commit']}, {machine['processor']}, {machine['threads']} threads, "
        f"torch {machine['torch']}; {report['clips']}. Load at the end: {machine['load']:.1f}.",
        "",
        *(f"* **{letter}**: {words}" for letter, words in PIPELINES.items()),
        "",
        "Medians of wall-clock seconds (lowest to highest), and how many times as fast as (a): by the clock, and by the",
        "processor's seconds, which other programs disturb less. 8 and 32 are faces and mel images that TimeSformer sees.",
        "",
        "| clip | pipeline | runs | s at 8 | × | × cpu | s at 32 | × | × cpu |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for clip in clips:
        for letter in PIPELINES:
            if some := _of(runs, clip, letter):
                base = _of(runs, clip, "a")
                cells = [cell for n in ("8", "32") for cell in _against(some, base, f"total {n}")]
                lines.append(f"| {clip} | {letter} | {len(some)} | {' | '.join(cells)} |")
    lines += ["", "Stages, seconds (× of a):", "", f"| clip | pipeline | {' | '.join(STAGES)} |", "|---" * 9 + "|"]
    for clip in clips:
        for letter in PIPELINES:
            if some := _of(runs, clip, letter):
                base = _of(runs, clip, "a")
                lines.append(f"| {clip} | {letter} | {' | '.join(_stage(some, base, stage) for stage in STAGES)} |")
    lines += ["", "![Seconds of each stage](results.png)"]
    lines += [
        "",
        f"Largest differences of logits that deviate by 1 over the equality clips (b may by {report['held']:.1e}):",
        "",
    ]
    lines += [f"* {what}: {value:.1e}" for what, value in report["deviations"].items()]
    lines += ["", *_limits(report["limits"])]
    return "\n".join(lines) + "\n"


def draw(report: dict[str, Any], path: Path) -> None:
    """Seconds of each stage, a bar for each pipeline, a panel for each clip; TimeSformer at 32 frames."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    runs = report["runs"]
    clips = list(dict.fromkeys(run["clip"] for run in runs))
    stages = [stage for stage in STAGES if stage != "classify 8"]
    figure, axes = pyplot.subplots(len(clips), 1, figsize=(8, 2.6 * len(clips)), squeeze=False, layout="constrained")
    for axis, clip in zip(axes[:, 0], clips):
        letters = [letter for letter in PIPELINES if _of(runs, clip, letter)]
        left = dict.fromkeys(letters, 0.0)
        for colour, stage in enumerate(stages):
            width = [median(run["seconds"].get(stage, 0.0) for run in _of(runs, clip, letter)) for letter in letters]
            axis.barh(letters, width, left=list(left.values()), label=stage, color=f"C{colour}")
            left = {letter: left[letter] + more for letter, more in zip(letters, width)}
        for letter, total in left.items():
            axis.text(total, letter, f" {total:.1f} s", va="center", fontsize=8)
        axis.set(title=clip, xlabel="seconds", xlim=(0, 1.12 * max(left.values())))
        axis.invert_yaxis()
    axes[0, 0].legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _limits(limits: dict[str, Any]) -> list[str]:
    """How near TimeSformer is to what the hardware multiplies at best."""
    rates = limits["operations per second"]
    lines = [
        "Matrix products of (1568, 768) and (768, 3072) reach "
        + " and ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in rates.items())
        + f", {rates['bf16'] / rates['fp32']:.1f} times as many. At that rate TimeSformer as it scores takes at least:",
        "",
    ]
    for frames, count in limits["operations"].items():
        least = " and ".join(f"{count / rate:.2f} s in {name}" for name, rate in rates.items())
        lines.append(f"* {least} at {frames} frames, {count / 1e9:,.0f} GFLOP")
    return lines


def machine(threads: int, device: Any) -> dict[str, Any]:
    """Processor or GPU, cores, versions, commit (`+` = changed since) and load."""
    import torch

    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
        return done.stdout.strip()

    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    return {
        "processor": f"{processor()}, {len(os.sched_getaffinity(0))} cores" + gpu,
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": (git("rev-parse", "--short", "HEAD") or "unknown") + changed,
        "load": os.getloadavg()[0],
    }


def processor() -> str:
    """Its name, and whether it has bfloat16."""
    import torch

    from visavox.compute import has_bf16

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name} {'with' if has_bf16(torch.device('cpu')) else 'without'} bf16"


def _of(runs: list[dict[str, Any]], clip: str, letter: str) -> list[dict[str, Any]]:
    return [run for run in runs if run["clip"] == clip and run["pipeline"] == letter]


def _against(some: list[dict[str, Any]], base: list[dict[str, Any]], stage: str) -> list[str]:
    """Median with spread, ratio by the clock, ratio by processor time."""
    mine = [run["seconds"][stage] for run in some]
    clock = median(run["seconds"][stage] for run in base) / median(mine)
    cpu = median(run["cpu"][stage] for run in base) / median(run["cpu"][stage] for run in some)
    return [f"{median(mine):.2f} ({min(mine):.2f}-{max(mine):.2f})", f"{clock:.1f}", f"{cpu:.1f}"]


def _stage(some: list[dict[str, Any]], base: list[dict[str, Any]], stage: str) -> str:
    mine, its = (median(run["seconds"].get(stage, 0.0) for run in part) for part in (some, base))
    return f"{mine:.2f} ({its / mine:.1f})" if mine else "-"
