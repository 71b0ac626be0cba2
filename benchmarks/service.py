"""The service under load: uploads at once, clips a minute by number of workers, and the time from upload to verdict.

    python -m benchmarks.service --checkpoint runs/v1/best.ckpt --clips videos       # all three, one after the other
    python -m benchmarks.service --checkpoint runs/v1/best.ckpt --only uploads

Starts services of its own on this machine, in a folder that is deleted. --clips: videos to judge (default: drawn ones of 10 s).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
HEAD = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
"""Of files in the test of uploads, in which nothing is decoded."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--clips", type=Path, help="a folder of videos")
    parser.add_argument("--count", type=int, default=48, help="clips to judge for the throughput")
    parser.add_argument("--only", choices=("uploads", "throughput", "latency"))
    arguments = parser.parse_args(argv)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only in (None, "uploads"):
            with service(arguments.checkpoint, Path(folder, "uploads"), workers=0) as (client, pid):
                found["uploads"] = uploads(client, pid)
        if arguments.only in (None, "latency"):
            with service(arguments.checkpoint, Path(folder, "latency"), workers=1) as (client, _):
                found["latency"] = latency(client, drawn(Path(folder, "long.mp4"), 10.0, (1280, 720)))
        if arguments.only in (None, "throughput"):
            clips = _clips(arguments.clips, Path(folder), arguments.count)
            for workers, threads in ((1, 0), (1, 1), (2, 1)):
                place = Path(folder, f"workers{workers}{threads}")
                with service(arguments.checkpoint, place, workers=workers, threads=threads) as (client, _):
                    words = f"{workers} workers of {threads} thread" if threads else f"{workers} worker of all cores"
                    found[f"clips a minute, {words}"] = throughput(client, clips)
    print(json.dumps(found, indent=1))
    return 0


@contextmanager
def service(checkpoint: str, folder: Path, *, workers: int, threads: int = 0) -> Iterator[tuple[httpx.Client, int]]:
    """A service of its own; gives a client and the API's process number."""
    folder.mkdir(parents=True)
    environment = os.environ | {
        "VISAVOX_SERVICE_DISK_RESERVE": "0",
        "VISAVOX_SERVICE_UPLOADS_PER_CLIENT": "200",
        "VISAVOX_SERVICE_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
    }
    words = ["--checkpoint", str(Path(checkpoint).absolute()) if Path(checkpoint).is_file() else checkpoint]
    words += ["--folder", str(folder), "--port", str(port := _free_port()), "--workers", str(workers)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "visavox", "serve", *words], env=environment, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
            _wait(client, "/readyz" if workers else "/healthz", process, folder / "log")
            if workers > 1:
                time.sleep(1)
                _wait_for_workers(folder / "log", workers)
            yield client, process.pid
    finally:
        process.terminate()
        process.wait(60)


def uploads(client: httpx.Client, pid: int, count: int = 100, size: int = 4 << 20) -> dict[str, Any]:
    """Send many files at once; return how they were answered, what /healthz took meanwhile, and the API's memory."""
    contents = [HEAD + os.urandom(size - len(HEAD)) for _ in range(count)]
    context = multiprocessing.get_context("spawn")  # a process of its own: the senders' threads would make it wait
    ours, theirs = context.Pipe()
    watching = context.Process(target=_watch, args=(str(client.base_url), theirs))
    watching.start()
    ours.recv()

    def send(content: bytes) -> httpx.Response:
        with httpx.Client(base_url=client.base_url, timeout=300) as other:
            return other.post("/analyze", files={"file": ("x.mp4", content)}, params={"wait": 0})

    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(send, contents))
    seconds = time.perf_counter() - began
    ours.send("over")
    took = ours.recv()
    watching.join()
    kept = [client.get(f"/analyses/{answer.json()['analysisId']}").json()["sha256"] for answer in answers]
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "statuses": {
            status: [a.status_code for a in answers].count(status) for status in {a.status_code for a in answers}
        },
        "sha256 equal": sum(a == hashlib.sha256(b).hexdigest() for a, b in zip(kept, contents)),
        "seconds": round(seconds, 2),
        "healthz requests": len(took),
        "healthz p50 ms": round(1000 * float(np.quantile(took, 0.5)), 1),
        "healthz p99 ms": round(1000 * float(np.quantile(took, 0.99)), 1),
        "API peak RSS MB": round(int(peak.split()[1]) / 1024),
    }


def _watch(url: str, connection: Connection) -> None:
    """Ask /healthz a hundred times a second at most until told to stop; send the seconds of each."""
    took = []
    with httpx.Client(base_url=url, timeout=60) as client:
        client.get("/healthz").raise_for_status()
        connection.send("ready")
        while not connection.poll():
            began = time.perf_counter()
            client.get("/healthz").raise_for_status()
            took.append(time.perf_counter() - began)
            time.sleep(0.01)
    connection.send(took)


def throughput(client: httpx.Client, clips: Sequence[bytes]) -> float:
    """Clips judged in a minute, all of them queued at once; asked for seldom, so that the asking takes no worker's processor."""
    began = time.perf_counter()
    ids = [_send(client, clip) for clip in clips]
    for id in ids:
        _ended(client, id, every=0.25)
    return round(60 * len(clips) / (time.perf_counter() - began), 1)


def latency(client: httpx.Client, clip: bytes, times: int = 5) -> dict[str, Any]:
    """Seconds from the first byte of the upload to the verdict, of one clip by itself; the first of them warms up."""
    took = []
    for n in range(times + 1):
        began = time.perf_counter()
        _ended(client, id := _send(client, _other(clip, n)))
        took.append(time.perf_counter() - began)
    stages = {each["name"]: each["seconds"] for each in client.get(f"/analyses/{id}").json()["stages"]}
    return {"median s": round(float(np.median(took[1:])), 2), "all s": [round(t, 2) for t in took], "stages": stages}


def drawn(path: Path, seconds: float, size: tuple[int, int]) -> bytes:
    """A drawn talking face of so many seconds, enlarged to (width, height)."""
    import cv2

    from visavox.media import write_video
    from visavox.synthetic.clips import render

    clip = render(3, 4, seconds, 256)
    frames = [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in clip.frames]
    write_video(path, frames, clip.audio, fps=25)
    return path.read_bytes()


def _clips(folder: Path | None, scratch: Path, count: int) -> list[bytes]:
    from visavox.files import find_inputs

    if folder is None:
        one = drawn(scratch / "clip.mp4", 4.0, (640, 640))
        return [_other(one, n) for n in range(count)]
    paths = list(find_inputs(folder).values())
    return [_other(paths[n % len(paths)].read_bytes(), n) for n in range(count)]


def _other(video: bytes, n: int) -> bytes:
    """The same MP4 with other content: a box that readers skip is put behind it."""
    return video + (16).to_bytes(4, "big") + b"free" + n.to_bytes(8, "big")


def _send(client: httpx.Client, clip: bytes) -> str:
    answer = client.post("/analyze", files={"file": ("clip.mp4", clip)}, params={"wait": 0})
    answer.raise_for_status()
    return answer.json()["analysisId"]


def _ended(client: httpx.Client, id: str, every: float = 0.05) -> None:
    while (status := client.get(f"/status/{id}").json())["status"] == "processing":
        time.sleep(every)
    assert status["status"] == "complete", status


def _wait(client: httpx.Client, path: str, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None and "a worker ended" not in log.read_text():
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the service did not start: {log.read_text()[-2000:]}")


def _wait_for_workers(log: Path, workers: int) -> None:
    until = time.monotonic() + 300
    while log.read_text().count('"networks loaded"') < workers and time.monotonic() < until:
        if "a worker ended" in log.read_text():
            raise SystemExit(f"a worker did not start: {log.read_text()[-2000:]}")
        time.sleep(0.2)


def _free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
