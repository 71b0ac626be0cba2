"""The whole service: a real checkpoint, real videos, one worker process; upload, stages, verdict, explanation, report."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Process, ended, upload
from visavox.detectors.analysis import Analysis


@pytest.fixture(scope="module")
def service(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The service with the tests' tiny detector."""
    process = Process(run / "best.ckpt", tmp_path_factory.mktemp("service") / "folder", "--set", "device=cpu")
    try:
        yield process.wait("/readyz")
    finally:
        if process.process.poll() is None:
            process.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def video(talking: Path) -> bytes:
    return sorted(talking.rglob("*.mp4"))[0].read_bytes()


def events_of(text: str) -> list[tuple[int, dict]]:
    """Number and status of each server-sent event."""
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    assert all(block["event"] == "status" for block in blocks)
    return [(int(block["id"]), json.loads(block["data"])) for block in blocks]


def test_a_video_is_judged_while_its_sender_waits(service: Process, video: bytes):
    answer = upload(service.client, video, wait=60)
    status = answer.json()
    assert answer.status_code == 200 and status["status"] == "complete" and status["percent"] == 100
    assert status["result"]["verdict"] in ("Deepfake", "Authentic") and 50 <= status["result"]["confidence"] <= 100
    assert answer.headers["location"] == f"/status/{status['analysisId']}"
    found = service.client.get(f"/analyses/{status['analysisId']}").json()
    analysis = Analysis.from_json(json.dumps(found["analysis"]))
    assert analysis.confidence == pytest.approx(status["result"]["confidence"] / 100, abs=1e-4)
    assert found["bytes"] == len(video) and found["media"]["hasSound"] and found["why"].startswith("P(fake) is")
    assert {"faces", "models", "container"} <= {stage["name"] for stage in found["stages"]}
    assert found["provenance"]["checkpoint"] == analysis.card.checkpoint
    report = service.client.get(f"/analyses/{status['analysisId']}/report")
    assert report.headers["content-type"].startswith("text/html") and "script" not in report.text
    assert found["sha256"] in report.text


def test_stages_come_as_events_and_percent_never_goes_back(service: Process, video: bytes, talking: Path):
    other = sorted(talking.rglob("*.mp4"))[-1].read_bytes()
    answer = upload(service.client, other, wait=0)
    id = answer.json()["analysisId"]
    assert answer.status_code == 202 and answer.headers["location"] == f"/status/{id}"
    events = events_of(service.client.get(f"/events/{id}").text)
    assert [number for number, _ in events] == list(range(1, len(events) + 1))
    percents = [status["percent"] for _, status in events]
    assert percents == sorted(percents) and percents[-1] == 100
    assert {"Queued", "Extracting frames", "Running models", "Final classification"} == {
        e["stageName"] for _, e in events
    }
    assert "timesformer_syncnet" in {status["detail"] for _, status in events}
    later = service.client.get(f"/events/{id}", headers={"Last-Event-ID": str(events[-2][0])}).text
    assert events_of(later) == events[-1:]


def test_a_text_file_and_a_damaged_video_end_with_their_codes(service: Process, video: bytes):
    answer = upload(service.client, b"no video " * 1000)
    assert answer.status_code == 415 and answer.json()["code"] == "NOT_A_VIDEO"
    damaged = video[:4000] + bytes(len(video) - 4000)
    status = ended(service.client, upload(service.client, damaged, wait=0).json()["analysisId"])
    assert status["status"] == "error" and status["code"] in ("CORRUPT_CONTAINER", "NO_FRAMES", "NOT_A_VIDEO")
    assert "/" not in status["error"].split("ffmpeg")[0] and status["result"] is None


def test_the_service_ends_with_143(service: Process):
    assert service.stop() == 143
