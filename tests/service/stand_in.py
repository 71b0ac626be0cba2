"""A stand-in for the service, of the same answers (docs/service.md), whose pace and faults a test decides.

    with serving() as api:
        api.pace = None            # jobs stand still until api.step() tells the next stage
        api.faults["/events"] = 503

It judges nothing: the verdict of a file is the one that the test gave it.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from visavox.detectors.analysis import (
    Analysis,
    Branch,
    Calibrated,
    Counterfactual,
    LeftOut,
    ModelCard,
    Segment,
    Weighed,
)

PAGE = Path(__file__).parents[2] / "visavox/service/page"
KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
POLICY = (
    "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""The service's Content-Security-Policy (visavox/service/guard.py)."""
COURSE = [
    ("queued", "Queued", 0, None),
    ("ingest", "Extracting frames", 5, None),
    ("container", "Extracting frames", 10, None),
    ("faces", "Extracting frames", 20, None),
    ("voice", "Extracting frames", 30, None),
    ("sync", "Extracting frames", 35, None),
    ("gate", "Running models", 45, "tiny"),
    ("models", "Running models", 60, "visual"),
    ("fusion", "Final classification", 95, None),
]
MEASURED = ("container", "faces", "voice", "models", "branch tiny", "branch visual", "branch temporal", "branch sync")
"""Stages and branches whose seconds are told after the end."""
LIMITS = {
    "maxBytes": 4 << 20,
    "maxSeconds": 600.0,
    "maxPixels": 3840 * 2160,
    "maxSide": 8192,
    "minSide": 32,
    "maxFps": 240.0,
    "queueLength": 1000,
    "uploadsPerClient": 2,
    "accept": [".mp4", ".mov", ".avi", ".mkv", ".webm"],
    "retentionMinutes": 60.0,
}


def analysis_of(verdict: str = "Deepfake", *, seconds: float = 4.0, timeline: bool = True) -> Analysis:
    """An analysis with every field filled, whose numbers fit its verdict."""
    p = {"Deepfake": 0.93, "Authentic": 0.06, "Undetermined": 0.52}[verdict]
    steps = [round(k / 10, 1) for k in range(int(seconds * 10))]
    course = (
        [Segment(t, round(t + 0.1, 1), min(0.99, p * (0.6 + 0.4 * (1.2 < t < 2.4)))) for t in steps] if timeline else []
    )
    windows = [Segment(t, t + 1, p * 0.8) for t in range(int(seconds))] if timeline else []
    return Analysis.of(
        p,
        card=ModelCard("fiveway", "ab" * 32, "cd" * 8, "temperature 0.37 on held-out", "clips of the tests"),
        branches=[
            Branch("tiny", min(1, p + 0.02), 0.2, 0.02),
            Branch("visual", p, 0.4, 1.31, course),
            Branch("temporal", p * 0.9, 0.1, 0.21),
            Branch("audio", None, 0.0, 0.0),
            Branch("sync", p * 0.8, 0.3, 0.52, windows),
        ],
        timeline=course,
        notes=["no sound: branch audio says nothing"],
        threshold=0.5,
        least_confidence=0.6,
        ledger=[Weighed("visual", 1.9), Weighed("sync", 0.7), Weighed("tiny", -0.2), Weighed("bias", 0.1)],
        calibrated=Calibrated("held-out clips", 240, "2026-11-01"),
        degraded=[LeftOut("audio", "the clip has no sound")],
        counterfactuals=[Counterfactual("visual", 0.41), Counterfactual("sync", 0.88)],
    )


@dataclass
class Job:
    """One upload."""

    id: str
    name: str
    content: bytes
    analysis: Analysis | None
    error: tuple[str, str] | None
    """Code and words, where the job ends in an error."""
    told: list[dict[str, Any]] = field(default_factory=list)
    """What has been told, each a Status."""
    created: float = field(default_factory=time.time)

    def next(self) -> bool:
        """Tell the next stage; False at the end."""
        n = len(self.told)
        if n > len(COURSE):
            return False
        status: dict[str, Any] = dict.fromkeys(("detail", "result", "error", "code")) | {"analysisId": self.id}
        if n < len(COURSE):
            stage, name, percent, detail = COURSE[n]
            status |= {"status": "processing", "percent": percent, "stageName": name, "stage": stage, "detail": detail}
        elif self.error:
            code, words = self.error
            last = self.told[-1]
            status |= {k: last[k] for k in ("percent", "stageName", "stage")} | {
                "status": "error",
                "error": words,
                "code": code,
            }
        else:
            assert self.analysis is not None
            names = {"fake": "Deepfake", "real": "Authentic", "undetermined": "Undetermined"}
            result = {"verdict": names[self.analysis.verdict], "confidence": 100 * self.analysis.confidence}
            status |= {"status": "complete", "percent": 100, "stageName": "Final classification", "stage": "done"}
            status |= {"result": result}
        self.told.append(status)
        return True

    def ended(self) -> bool:
        return self.told[-1]["status"] != "processing"

    def dossier(self) -> dict[str, Any]:
        done = self.told[-1]["status"] == "complete"
        analysis = self.analysis if done else None
        return {
            "analysisId": self.id,
            "fileName": self.name,
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "bytes": len(self.content),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.created)),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) if self.ended() else None,
            "status": self.told[-1],
            "analysis": asdict(analysis) if analysis else None,
            "why": "The face speaks for a forgery, most of all between 1.2 and 2.4 s." if analysis else None,
            "observations": [{"name": "container", "value": "mp4, 1 video stream", "note": "made by Lavf61"}]
            if done
            else [],
            "stages": [{"name": name, "seconds": 0.4} for name in MEASURED] if done else [],
            "provenance": {
                "checkpoint": "ab" * 32,
                "prep_hash": "cd" * 8,
                "commit": "0123abcd",
                "version": "0.0",
                "calibration": "temperature 0.37 on held-out",
            },
            "media": {"seconds": 4.0, "width": 256, "height": 256, "fps": 25.0, "hasSound": False},
        }


class StandIn(ThreadingHTTPServer):
    """The server and what it knows; tests change its attributes while it runs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs: dict[str, Job] = {}
        self.pace: float | None = 0.02
        """Seconds between two stages; None: they wait for `step`."""
        self.verdict = "Deepfake"
        self.timeline = True
        self.error: tuple[str, str] | None = None
        self.faults: dict[str, int] = {}
        """Beginnings of paths that are answered with a status of error."""
        self.events_per_stream: int | None = None
        """Events after which a stream is cut."""
        self.token = ""
        self.demo = False
        self.feedback: list[tuple[str, int]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        """Method with path, and headers, of every request."""
        self.changed = threading.Condition()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def receive(self, name: str, content: bytes) -> Job:
        analysis = analysis_of(self.verdict, timeline=self.timeline)
        job = Job(str(uuid.uuid4()), name, content, analysis, self.error)
        job.next()
        self.jobs[job.id] = job
        if self.pace is not None:
            threading.Thread(target=self._run, args=(job, self.pace), daemon=True).start()
        return job

    def _run(self, job: Job, pace: float) -> None:
        while not job.ended():
            time.sleep(pace)
            self.step(job)

    def step(self, job: Job | None = None, times: int = 1) -> None:
        """Tell the next stages of a job, by default the newest one's, once it has been uploaded."""
        while not self.jobs:
            time.sleep(0.02)
        job = job or list(self.jobs.values())[-1]
        with self.changed:
            for _ in range(times):
                job.next()
            self.changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self._refused():
            return
        parts = self.path.split("?")[0].strip("/").split("/")
        match parts:
            case ["limits"]:
                self._json(200, LIMITS)
            case ["model"]:
                names = ["tiny", "visual", "temporal", "audio", "sync"]
                model = {"detector": "fiveway", "branches": names, "calibration": "held-out", "demo": self.server.demo}
                self._json(200, model)
            case ["status" | "events" | "analyses", id, *_] if id not in self.server.jobs:
                self._problem(404, "NO_SUCH_ANALYSIS", "There is no such analysis.")
            case ["status", id]:
                self._json(200, self.server.jobs[id].told[-1])
            case ["events", id]:
                self._events(self.server.jobs[id])
            case ["analyses", id]:
                self._json(200, self.server.jobs[id].dossier())
            case ["analyses", _, "report"]:
                self._send(200, b"<!doctype html><title>report</title>", "text/html")
            case _:
                self._page("/".join(parts) or "index.html")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refused():
            return
        if self.path.startswith("/analyze"):
            head, _, content = body.partition(b"\r\n\r\n")
            name = head.decode().split('filename="')[1].split('"')[0]
            content = content.rsplit(b"\r\n--", 1)[0]
            if content.startswith(b"text"):
                self._problem(415, "NOT_A_VIDEO", "It is no video file of a known kind.", cure="Convert it to MP4.")
                return
            self._json(202, self.server.receive(name, content).told[0])
        else:
            self.server.feedback.append((self.path.split("/")[2], json.loads(body)["label"]))
            self._send(204)

    def do_DELETE(self) -> None:
        if not self._refused():
            self.server.jobs.pop(self.path.split("/")[2], None)
            self._send(204)

    def _refused(self) -> bool:
        self.server.asked.append((f"{self.command} {self.path}", dict(self.headers)))
        for path, status in self.server.faults.items():
            if self.path.startswith(path):
                self._problem(status, "QUEUE_FULL", "The queue is full.", cure="Try again in a minute.")
                return True
        asset = self.command == "GET" and (self.path == "/" or self.path.startswith(("/assets", "/favicon")))
        if self.server.token and not asset and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._problem(401, "UNAUTHORIZED", "A token is asked for.")
            return True
        return False

    def _events(self, job: Job) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        number = first = int(self.headers.get("Last-Event-ID", 0))
        most = self.server.events_per_stream
        while most is None or number - first < most:
            with self.server.changed:
                if len(job.told) <= number:
                    self.server.changed.wait(0.5)
                told = job.told[number:]
            for status in told[: None if most is None else most]:
                number += 1
                try:
                    self.wfile.write(f"event: status\nid: {number}\ndata: {json.dumps(status)}\n\n".encode())
                except OSError:
                    return
                if status["status"] != "processing":
                    return
        self.close_connection = True

    def _page(self, name: str) -> None:
        path = PAGE / name
        if not path.is_file():
            self._problem(404, "NO_SUCH_PAGE", "There is no such page.")
            return
        self._send(200, path.read_bytes(), KINDS.get(path.suffix, "text/plain"))

    def _json(self, status: int, value: Any, kind: str = "application/json") -> None:
        self._send(status, json.dumps(value).encode(), kind)

    def _problem(self, status: int, code: str, title: str, **more: str) -> None:
        value = {"type": "about:blank", "title": title, "status": status, "detail": title, "code": code} | more
        self._json(status, value, "application/problem+json")

    def _send(self, status: int, content: bytes = b"", kind: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[StandIn]:
    """A stand-in on a free port of this machine."""
    with StandIn() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
