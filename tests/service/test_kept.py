"""What the service keeps: results under the key of what judged them, uploads within the disk's reserve, one service a folder."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import ValidationError

from tests.serving import ABOUT, RESULT, VIDEO, serving, settings_of, upload, working
from visavox.commands import serve
from visavox.config import ConfigError
from visavox.detectors.analysis import Analysis, Branch, LeftOut, ModelCard
from visavox.runs import LockedError, holding
from visavox.service import perform, sqlite_store
from visavox.service.api import create_app
from visavox.service.folder import Folder, sweep
from visavox.service.settings import Settings
from visavox.service.sqlite_store import SQLiteStore
from visavox.service.store import StoreError, Submission


def loads(settings: Settings, parts: str) -> dict[str, Any]:
    """What a worker says once it has loaded the default model from these parts."""
    about = ABOUT | {"detector": "default", "fingerprint": parts, "overrides": [], "versions": settings.versions()}
    (settings.folder / "model.json").write_text(json.dumps(about), encoding="utf-8")
    return about


def verdict(name: str) -> dict[str, Any]:
    return RESULT | {"analysis": RESULT["analysis"] | {"verdict": name}}


def test_a_known_video_is_judged_anew_once_the_default_model_has_more_parts(tmp_path: Path):
    settings = settings_of(tmp_path, checkpoint=Path("default"))
    with serving(settings) as client, working(settings) as worker:
        worker.about = loads(settings, "voice alone")
        worker.judge = lambda lease: ("done", verdict("fake"))
        first = upload(client, VIDEO + b"1")
        worker.judge = lambda lease: ("failed", ("INTERNAL", ""))
        assert upload(client, VIDEO + b"1").json()["result"] == first.json()["result"]
        worker.about = loads(settings, "voice and face")
        worker.judge = lambda lease: ("done", verdict("real"))
        again = upload(client, VIDEO + b"1")
        assert first.json()["result"]["verdict"] == "Deepfake" and again.json()["result"]["verdict"] == "Authentic"
        found = [client.get(f"/analyses/{answer.json()['analysisId']}").json() for answer in (first, again)]
        assert [each["analysis"]["verdict"] for each in found] == ["fake", "real"]


def test_a_result_lies_under_the_key_of_the_model_that_judged(tmp_path: Path):
    """The weights arrive between upload and judging: who uploads the same video later gets the same result."""
    settings = settings_of(tmp_path, checkpoint=Path("default"))
    with serving(settings) as client, working(settings) as worker:
        worker.stop.set()
        before = loads(settings, "voice alone")
        id = upload(client, VIDEO, wait=0).json()["analysisId"]
        folder = Folder(settings.folder)
        submission = next(folder.submissions())
        worker.about = before | {"fingerprint": "voice and face"}
        worker.work([worker.store.claim("worker", 60)])
        assert folder.result(submission.key) is None and folder.key(submission) != submission.key
        assert client.get(f"/analyses/{id}").json()["analysis"]["verdict"] == "fake"
        sweep(folder, worker.store, 60, 168)
        assert client.get(f"/analyses/{id}").json()["analysis"]
        loads(settings, "voice and face")
        assert upload(client, VIDEO, wait=0).json()["status"] == "complete"


def test_a_full_disk_is_held_against_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    settings = settings_of(tmp_path, lease_seconds=0.5)
    monkeypatch.setattr(Folder, "keep_result", full)
    with serving(settings) as client, working(settings) as worker:
        status = upload(client, VIDEO).json()
        assert status["status"] == "error" and status["code"] == "NO_SPACE" and "disk" in status["error"]
        assert not worker.store.poisoned(next(Folder(settings.folder).submissions()).key)


def test_a_result_that_is_reused_while_the_folder_is_swept_stays(tmp_path: Path):
    class Reusing(Folder):
        def submissions(self) -> Iterator[Submission]:
            yield from super().submissions()
            assert self.reused("a" * 64)  # by an upload that comes after the folder was read

    folder, store = Reusing(tmp_path), SQLiteStore(tmp_path / "queue.sqlite")
    for key in ("a" * 64, "b" * 64):
        folder.keep_result(key, RESULT)
    sweep(folder, store, 60, 168)
    assert folder.result("a" * 64) == RESULT and folder.result("b" * 64) is None
    assert not list((tmp_path / "results").glob("*.dropped"))
    store.close()


def test_feedback_outlives_its_analysis_but_not_its_deletion(tmp_path: Path):
    settings = settings_of(tmp_path)
    with serving(settings) as client, working(settings) as worker:
        ids = [upload(client, VIDEO + bytes([n])).json()["analysisId"] for n in range(2)]
        for id in ids:
            assert client.post(f"/analyses/{id}/feedback", json={"label": 1}).status_code == 204
        client.delete(f"/analyses/{ids[0]}")
        sweep(Folder(settings.folder), worker.store, 0, 0)
        assert client.get(f"/status/{ids[1]}").status_code == 404
        assert [path.stem for path in (settings.folder / "feedback").iterdir()] == [ids[1]]
        assert [client.delete(f"/analyses/{ids[1]}").status_code for _ in range(2)] == [204, 404]
    assert not list((settings.folder / "feedback").iterdir())


def test_a_record_of_another_job_is_left_out(tmp_path: Path):
    folder = Folder(tmp_path)
    for name, id in ((str(uuid.uuid4()), "../../x"), (str(uuid.uuid4()), str(uuid.uuid4()))):
        (tmp_path / "jobs" / name).mkdir()
        (tmp_path / "jobs" / name / "job.json").write_text(Submission(id, "0", "0", "x", 1, "2026").to_json())
    assert list(folder.submissions()) == []


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_leaves_the_reserve_of_the_disk(declared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    free = iter([1 << 40, *([0] * 9)])  # others fill it while the upload comes
    monkeypatch.setattr(Folder, "free_bytes", lambda self: next(free))
    with serving(settings_of(tmp_path, disk_reserve=1 << 30)) as client:
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.mp4"\r\n\r\n'
        body = head + VIDEO + b"\r\n--b--\r\n"
        content = body if declared else iter([body])
        answer = client.post("/analyze", content=content, headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert answer.status_code == 507 and answer.json()["code"] == "NO_SPACE"
    assert not list((tmp_path / "incoming").iterdir()) and not list((tmp_path / "jobs").iterdir())


def test_a_second_service_of_the_same_folder_does_not_start(tmp_path: Path):
    settings = settings_of(tmp_path)
    with serving(settings), pytest.raises(LockedError, match="locked by pid"), holding(tmp_path):
        pass


def test_why_it_cannot_start_is_said(tmp_path: Path):
    app = create_app(settings_of(tmp_path)).fastapi

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    with holding(tmp_path), structlog.testing.capture_logs() as logged, pytest.raises(LockedError):
        asyncio.run(start())
    assert "locked by pid" in logged[0]["reason"] and "--folder" in logged[0]["reason"]
    app.state.settings.folder = tmp_path / "stand_in.ckpt"
    with structlog.testing.capture_logs() as logged, pytest.raises(OSError):
        asyncio.run(start())
    assert "stand_in.ckpt" in logged[0]["reason"] and "--folder" in logged[0]["reason"]


@pytest.mark.parametrize("what", ["the schema's format", "a name that is no UTF-8"])
def test_damage_that_sqlite_has_no_code_for_is_damage(what: str, tmp_path: Path):
    path = tmp_path / "queue.sqlite"
    SQLiteStore(path).close()
    assert sqlite_store.is_whole(path)
    data = bytearray(path.read_bytes())
    if what == "the schema's format":
        data[47] = 9
    else:
        at = data.index(b"tablejobsjobs")
        data[at + 5 : at + 13] = b"\xffobs\xffobs"
    path.write_bytes(data)
    assert not sqlite_store.is_whole(path)


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR]
)
def test_what_is_no_damage_is_not_taken_for_it(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "queue.sqlite"
    SQLiteStore(path).close()

    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr(sqlite_store.sqlite3, "connect", fail)
    with pytest.raises(StoreError, match="then start again"):
        sqlite_store.is_whole(path)


def test_a_queue_that_another_process_holds_is_not_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "queue.sqlite"
    SQLiteStore(path).close()
    monkeypatch.setattr(sqlite_store, "BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        sqlite_store.is_whole(path)
    holder.close()
    assert sqlite_store.is_whole(path)


def test_a_token_that_can_be_guessed_or_never_matches_is_refused(tmp_path: Path):
    for token in (
        "x",
        "fifteen letters",
        "ein Schlüssel aus Wörtern",
        " sixteen or more of them ",
        "two\nlines of them, long",
    ):
        with pytest.raises(ValidationError, match="16 or more"):
            settings_of(tmp_path, token=token)
    assert settings_of(tmp_path, token="sixteen letters!").token


@pytest.mark.parametrize("model", ["default", "tiny_ladeda_wildrf"])
def test_a_published_model_takes_device_and_confine_and_nothing_else(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def settings(*overrides: str) -> Settings:
        return settings_of(tmp_path, checkpoint=Path(model), overrides=list(overrides))

    assert settings("device=cpu", "confine=require").of_published() == {"device": "cpu", "confine": "require"}
    for wrong in ("frame_num=4", "device=tpu", "confine=off", "device"):
        with pytest.raises(ConfigError, match="takes device=auto"):
            settings(wrong).fingerprint()
    assert serve.main(["--checkpoint", model, "--set", "frame_num=4", "--folder", str(tmp_path)]) == 2
    assert "frame_num=4" in capsys.readouterr().err


def test_an_analysis_needs_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A user whom the system does not know, as in a container, without HOME."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "weights"))
    order = perform.Order(tmp_path / "video", "clip.mp4", "0" * 64)
    assert perform._without_places([f"{order.path}: no face"], order) == ["clip.mp4: no face"]


def test_answers_hold_no_place_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from visavox import weights
    from visavox.media.declared import MediaInfo

    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "weights"))
    order = perform.Order(tmp_path / "jobs/id/video", "clip.mp4", "0" * 64)
    why = f"{weights.folder()}/voice.bin has 3 bytes.\nBy hand:\n  folder  {weights.folder()}"
    analysis = Analysis.of(
        0.5,
        card=ModelCard("default"),
        branches=[Branch("voice", None, 0.0, 0.0)],
        notes=[f"There is nothing to judge by: {order.path}: no face", f"{Path.home()}/x"],
        degraded=[LeftOut("voice", why)],
    )
    info = MediaInfo("mov", "h264", 64, 64, "yuv420p", 25.0, 1.0, 0, "1:1", None, None, None)
    seen = perform.Seen(order, perform.Announcing(lambda *_: None), info, [], None)
    about = {name: ABOUT[name] for name in ("checkpoint", "prep_hash", "commit", "version")}
    text = json.dumps(perform.result_of(seen, analysis, about))
    assert str(tmp_path) not in text and str(Path.home()) + "/" not in text and "By hand" not in text
    assert "the weights folder/voice.bin has 3 bytes." in text and "clip.mp4: no face" in text
