"""What is counted of jobs, for Prometheus: by workers, in the store that all of them share, so that /metrics shows them all.

Labels come from fixed sets: stages, verdicts, error codes, and the names of the detector's branches. Nothing of an upload is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from visavox.service.store import Measures, Progress

if TYPE_CHECKING:
    from prometheus_client.core import Metric

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
SCORES = tuple(n / 10 for n in range(1, 11))
FAILED = "branch "
"""Begins the note of a branch that failed: `branch NAME failed ...`."""


def of_job(end: Progress, seconds: float, result: Mapping[str, Any] | None) -> Measures:
    """Return what one ended job adds to the measures."""
    counted = {("jobs", f"outcome={end.verdict or end.code}"): 1.0}
    observe(counted, "job_seconds", "stage=all", seconds, SECONDS)
    if result is None:
        return counted
    for stage in result["stages"]:
        name, branch, took = stage["name"], stage["name"].removeprefix("branch "), stage["seconds"]
        if name == branch:
            observe(counted, "job_seconds", f"stage={name}", took, SECONDS)
        else:
            observe(counted, "branch_seconds", f"branch={branch}", took, SECONDS)
    analysis = result["analysis"]
    observe(counted, "score", "", analysis["probability"], SCORES)
    for branch in analysis["branches"]:
        failed = any(note.startswith(f"{FAILED}{branch['name']} failed") for note in analysis["notes"])
        if failed:
            counted["branch_errors", f"branch={branch['name']}"] = 1.0
    return counted


def observe(
    counted: dict[tuple[str, str], float], name: str, labels: str, value: float, edges: tuple[float, ...]
) -> None:
    """Add one value to a histogram: its sum, its count, and the buckets it falls into."""
    for key, amount in ((f"{name}:sum", value), (f"{name}:count", 1.0)):
        counted[key, labels] = counted.get((key, labels), 0.0) + amount
    for edge in edges:
        if value <= edge:
            counted[f"{name}:le:{edge}", labels] = counted.get((f"{name}:le:{edge}", labels), 0.0) + 1.0


COUNTERS = {
    "jobs": ("Jobs that ended, by verdict or error code.", "outcome"),
    "branch_errors": ("Branches that failed and were left out.", "branch"),
    "child_deaths": ("Processes that a video, or the system, ended.", ""),
}
HISTOGRAMS = {
    "job_seconds": ("Seconds of a job, by stage; stage=all is the whole.", "stage", SECONDS),
    "branch_seconds": ("Seconds of a branch.", "branch", SECONDS),
    "score": ("P(fake) of the clips judged.", "", SCORES),
}


def metrics(measures: Measures, waiting: int, running: int) -> Iterator[Metric]:
    """Yield the store's measures as Prometheus knows them."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    depth = GaugeMetricFamily("visavox_queue_depth", "Jobs in the queue.", labels=["state"])
    depth.add_metric(["queued"], waiting)
    depth.add_metric(["running"], running)
    yield depth
    for name, (words, label) in COUNTERS.items():
        counter = CounterMetricFamily(f"visavox_{name}", words, labels=[label] if label else [])
        for (key, labels), value in sorted(measures.items()):
            if key == name:
                counter.add_metric([labels.partition("=")[2]] if label else [], value)
        yield counter
    for name, (words, label, edges) in HISTOGRAMS.items():
        histogram = HistogramMetricFamily(f"visavox_{name}", words, labels=[label] if label else [])
        for labels in sorted({labels for key, labels in measures if key == f"{name}:count"}):
            buckets = [(str(float(edge)), measures.get((f"{name}:le:{edge}", labels), 0.0)) for edge in edges]
            buckets.append(("+Inf", measures[f"{name}:count", labels]))
            histogram.add_metric([labels.partition("=")[2]] if label else [], buckets, measures[f"{name}:sum", labels])
        yield histogram
