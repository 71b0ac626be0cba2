"""What clients do to the service over HTTP: too much, too slowly, half, wrongly, from elsewhere."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import logging
import logging.config
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from tests.cases.cases import Case, held_by
from tests.serving import VIDEO, ended, serving, settings_of, upload, working
from visavox.service.folder import display_name
from visavox.service.settings import Settings

MIB = 1 << 20
BOUNDARY = "b0undary"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="x.mp4"\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Small limits, so that each is met soon."""
    more = {"max_bytes": MIB, "header_seconds": 1.5, "idle_seconds": 1.0, "min_rate": 1000, "uploads_per_client": 60}
    return settings_of(tmp_path_factory.mktemp("http") / "service", **more)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def port_of(client: httpx.Client) -> int:
    return client.base_url.port


def stored(settings: Settings) -> list[Path]:
    """Every file of an upload, whole or not."""
    return [path for name in ("incoming", "jobs") for path in (settings.folder / name).rglob("*") if path.is_file()]


def raw(port: int, data: bytes, seconds: float = 10) -> bytes:
    """What is answered to some bytes until the connection closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def form(*parts: tuple[str, bytes]) -> bytes:
    """A multipart body of (disposition, content)."""
    body = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"
        for disposition, content in parts
    )
    return body + f"--{BOUNDARY}--\r\n".encode()


def pieces(count: int, size: int = MIB) -> Iterator[bytes]:
    yield HEAD + VIDEO
    for _ in range(count):
        yield bytes(size)
    yield TAIL


@held_by(
    Case(
        "H1", "an upload of 12 MiB with its length, the limit is 1", "a readable 413, nothing is stored", given="length"
    ),
    Case("H1", "an upload of 12 MiB in chunks", "a readable 413, nothing is stored", given="chunks"),
    Case("H1", "an upload of 60 MiB in chunks", "a readable 413, nothing is stored", given="many"),
    Case("H1", "a length that is larger than the body", "408 when nothing more comes, nothing is stored", given="lie"),
    Case("H1", "a sender that waits to be asked (Expect)", "413 before it has sent anything", given="expect"),
)
def test_too_much(case: Case, client: httpx.Client, settings: Settings):
    before = stored(settings)
    match case.given:
        case "length":
            answer = client.post("/analyze", content=HEAD + VIDEO + bytes(12 * MIB) + TAIL, headers=FORM)
        case "chunks" | "many":
            answer = client.post("/analyze", content=pieces(60 if case.given == "many" else 12), headers=FORM)
        case "lie":
            request = f"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\n"
            said = raw(port_of(client), request.encode() + b"Content-Length: 90000\r\n\r\n" + HEAD + VIDEO)
            assert b" 408 " in said.splitlines()[0] and b'"TOO_SLOW"' in said
            assert stored(settings) == before
            return
        case "expect":
            request = f"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\n"
            said = raw(port_of(client), request.encode() + b"Content-Length: 90000000\r\nExpect: 100-continue\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 413") and b"100 Continue" not in said
            return
    assert answer.status_code == 413 and answer.json()["code"] == "UPLOAD_TOO_LARGE"
    assert answer.headers["content-type"] == "application/problem+json"
    assert stored(settings) == before


@held_by(
    Case(
        "H2", "50 heads that never end", "each connection is closed in time; /healthz answers meanwhile", given="head"
    ),
    Case("H2", "50 bodies that stop coming", "each ends with 408; /healthz answers meanwhile", given="body"),
    Case("H2", "a body that comes by drops", "408 once it is below the least rate", given="drops"),
    Case("H2", "a connection that stays open and asks nothing", "closed in time", given="idle"),
)
def test_too_slow(case: Case, client: httpx.Client, settings: Settings):
    port, form_type = port_of(client), FORM["Content-Type"]
    start = f"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: {form_type}\r\nContent-Length: 500000\r\n\r\n"
    sent = {
        "head": b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        "body": start.encode() + HEAD + VIDEO,
        "drops": start.encode() + HEAD + VIDEO,
        "idle": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    }[case.given]
    count = 50 if case.given in ("head", "body") else 1
    connections = [socket.create_connection(("127.0.0.1", port), timeout=15) for _ in range(count)]
    for connection in connections:
        connection.sendall(sent)
    began, took = time.monotonic(), []
    if case.given == "drops":
        with pytest.raises(OSError):
            for _ in range(200):
                connections[0].sendall(b"x")
                time.sleep(0.05)
                connections[0].settimeout(0.01)
                try:
                    if b"408" in connections[0].recv(4096):
                        raise OSError("answered")
                except TimeoutError:
                    continue
        assert time.monotonic() - began < 8
        return
    while time.monotonic() - began < 1:
        asked = time.monotonic()
        assert client.get("/healthz").status_code == 200
        took.append(time.monotonic() - asked)
    answers = []
    for connection in connections:
        data = b""
        while piece := connection.recv(65536):
            data += piece
        answers.append(data)
        connection.close()
    assert time.monotonic() - began < 12
    if case.given == "head":
        assert all(answer == b"" or b" 408 " in answer.splitlines()[0] for answer in answers)
    elif case.given == "body":
        assert all(b" 408 " in answer.splitlines()[0] for answer in answers)
    assert sorted(took)[int(0.99 * (len(took) - 1))] < 1.0  # a busy machine; docs/service.md has a measurement
    assert not stored(settings)


@held_by(Case("H3", "30 uploads at once", "all are answered 202, none is lost, each content's sha256 is right"))
def test_many_at_once(case: Case, client: httpx.Client):
    contents = [VIDEO + os.urandom(200_000) for _ in range(30)]
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda content: upload(client, content, wait=0), contents))
    assert {answer.status_code for answer in answers} == {202}
    found = [client.get(f"/analyses/{answer.json()['analysisId']}").json()["sha256"] for answer in answers]
    assert found == [hashlib.sha256(content).hexdigest() for content in contents]
    for answer in answers:
        assert client.delete(f"/analyses/{answer.json()['analysisId']}").status_code == 204


@held_by(
    Case("H4", "a client that goes away in the middle", "what came is removed, its place is free, no file stays open")
)
def test_gone(case: Case, client: httpx.Client, settings: Settings):
    start = f"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['Content-Type']}\r\nContent-Length: 900000\r\n\r\n"
    client.get("/healthz")
    before = len(os.listdir("/proc/self/fd"))
    connections = [socket.create_connection(("127.0.0.1", port_of(client))) for _ in range(20)]
    for connection in connections:
        connection.sendall(start.encode() + HEAD + VIDEO + bytes(100_000))
    until = time.monotonic() + 10
    while not stored(settings) and time.monotonic() < until:
        time.sleep(0.01)
    assert stored(settings)
    for connection in connections:
        connection.close()
    while (stored(settings) or len(os.listdir("/proc/self/fd")) > before + 2) and time.monotonic() < until:
        time.sleep(0.05)
    assert not stored(settings) and len(os.listdir("/proc/self/fd")) <= before + 2


FILE = 'name="file"; filename="x.mp4"'
FORMS = {
    "ten thousand parts": (422, form(*[('name="x"', b"")] * 10_000)),
    "ten thousand files": (422, form(*[(FILE, VIDEO)] * 10_000)),
    "a part's head of 1 MB": (422, form(('name="file"; filename="' + "x" * 990_000 + '"', VIDEO))),
    "no file name": (422, form(('name="file"', VIDEO))),
    "two files": (422, form((FILE, VIDEO), (FILE, VIDEO))),
    "another field": (422, form(('name="video"; filename="x.mp4"', VIDEO))),
    "no part": (422, f"--{BOUNDARY}--\r\n".encode()),
    "no boundary at all": (422, b"nothing of a form"),
    "an empty file": (422, form((FILE, b""))),
    "a form that is cut off": (422, form((FILE, VIDEO))[:-30]),
    "a text that is called x.mp4": (415, form((FILE, b"not a video " * 10))),
    "a zip that is called x.mp4": (415, form((FILE, b"PK\x03\x04" + bytes(5000)))),
    "a playlist that names other files": (415, form((FILE, b"ffconcat version 1.0\nfile '/etc/passwd'\n"))),
}


@held_by(*(Case("H5", name, f"{status}, in bounded time", given=name) for name, (status, _) in FORMS.items()))
def test_forms(case: Case, client: httpx.Client, settings: Settings):
    status, body = FORMS[case.given]
    began = time.process_time()
    answer = client.post("/analyze", content=body, headers=FORM)
    assert time.process_time() - began < 2
    assert answer.status_code == status and answer.json()["status"] == status
    assert answer.json()["code"] in ("BAD_UPLOAD", "EMPTY_FILE", "NOT_A_VIDEO") and answer.json()["cure"]
    assert not stored(settings)


@held_by(
    Case("H5", "a body that is no form", "415", given="application/json"),
    Case("H5", "a form without a boundary", "415", given="multipart/form-data"),
    Case("H5", "no type at all", "415", given=None),
)
def test_types(case: Case, client: httpx.Client):
    headers = {"Content-Type": case.given} if case.given else {}
    answer = client.post("/analyze", content=b"{}", headers=headers)
    assert answer.status_code == 415 and answer.json()["code"] == "NOT_MULTIPART"


@held_by(
    Case("H6", "an id that was never given", "404", given=str(uuid.uuid4())),
    Case("H6", "a number for an id", "404", given="1"),
    Case("H6", "a path for an id", "404", given="..%2F..%2Fetc%2Fpasswd"),
    Case("H6", "a byte that ends a string", "404", given="%00"),
)
def test_foreign_ids(case: Case, client: httpx.Client):
    for path in (
        f"/status/{case.given}",
        f"/events/{case.given}",
        f"/analyses/{case.given}",
        f"/analyses/{case.given}/report",
    ):
        answer = client.get(path)
        assert answer.status_code == 404 and answer.json()["code"] in ("NO_SUCH_ANALYSIS", "NO_SUCH_PAGE"), path
    assert client.delete(f"/analyses/{case.given}").status_code in (404, 405)
    assert client.get("/analyses").status_code in (404, 405)  # there is no list
    assert client.get("/analyses/").status_code in (404, 405)


def test_ids_are_random_uuids(client: httpx.Client):
    ids = [upload(client, VIDEO + bytes([n]), wait=0).json()["analysisId"] for n in range(3)]
    assert all(uuid.UUID(id).version == 4 for id in ids) and len(set(ids)) == 3
    for id in ids:
        client.delete(f"/analyses/{id}")


@held_by(
    Case("H7", "a page of another site posts", "403", given={"Origin": "https://evil.example"}),
    Case("H7", "a page in a frame without an origin posts", "403", given={"Origin": "null"}),
    Case("H7", "a form of another site posts, without an origin", "403", given={"Sec-Fetch-Site": "cross-site"}),
    Case("H7", "another name for this host (DNS rebinding)", "400", given={"Host": "evil.example"}),
    Case("H7", "a page of another port of this machine", "403", given={"Origin": "http://localhost:9999"}),
)
def test_from_elsewhere(case: Case, client: httpx.Client, settings: Settings):
    for answer in (
        client.post("/analyze", content=form((FILE, VIDEO)), headers=FORM | case.given),
        client.delete(f"/analyses/{uuid.uuid4()}", headers=case.given),
    ):
        assert answer.status_code == (400 if "Host" in case.given else 403)
        assert answer.json()["code"] in ("FOREIGN_ORIGIN", "BAD_HOST")
        assert "access-control-allow-origin" not in answer.headers
    assert not stored(settings)


def test_every_answer_has_its_headers_and_a_page_of_ours_may_post(client: httpx.Client):
    for path in ("/", "/healthz", "/status/x", "/openapi.json"):
        headers = client.get(path).headers
        assert (
            "default-src 'self'" in headers["content-security-policy"]
            and headers["x-content-type-options"] == "nosniff"
        )
        assert "server" not in headers and "access-control-allow-origin" not in headers
    own = str(client.base_url).rstrip("/")
    answer = client.post("/analyze?wait=0", content=form((FILE, VIDEO)), headers=FORM | {"Origin": own})
    assert answer.status_code == 202
    client.delete(f"/analyses/{answer.json()['analysisId']}")


def test_listed_origins_may_ask_and_a_token_is_asked_for(tmp_path: Path):
    token, page = "a token of some length", "http://localhost:3000"
    with serving(settings_of(tmp_path, token=token, cors_origins=[page])) as client:
        assert client.get("/healthz").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
            answer = client.get("/limits", headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert client.post("/analyze", headers=headers).status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}
        answer = client.get("/limits", headers=bearer | {"Origin": page})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == page
        asked = {"Origin": page, "Access-Control-Request-Method": "POST"}
        answer = client.options("/analyze", headers=asked)
        assert answer.status_code == 204 and "Authorization" in answer.headers["access-control-allow-headers"]
        answer = client.options("/analyze", headers=asked | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
        answer = client.post("/analyze?wait=0", content=form((FILE, VIDEO)), headers=FORM | bearer | {"Origin": page})
        assert answer.status_code == 202


def test_bound_wider_it_does_not_start_without_a_token(tmp_path: Path):
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(ValidationError, match="set a token"):
            settings_of(tmp_path, host=host)
        assert settings_of(tmp_path, host=host, token="a token of some length").host == host
    with pytest.raises(ValidationError, match="has 0 characters"):
        settings_of(tmp_path, token="")


NAME = 'a\n{"level": "critical", "event": "forged"}\x1b[2J‮../../x.mp4'


@held_by(
    Case("H8", "a file name that forges a log line, a path, a script", "it is an escaped field; answers hold no path")
)
def test_names_and_errors_hold_nothing(
    case: Case, client: httpx.Client, settings: Settings, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        name = NAME.replace("\n", " ").replace('"', "%22")  # as browsers send it; a line break ends a part's head
        body = form((f'name="file"; filename="{name}"', VIDEO))
        answer = client.post("/analyze?wait=0", content=body, headers=FORM)
    assert answer.status_code == 202, answer.text
    id = answer.json()["analysisId"]
    shown = client.get(f"/analyses/{id}").json()["fileName"]
    assert not re.search(r"[\x00-\x1f‮]", shown) and "/" not in shown
    client.delete(f"/analyses/{id}")
    for answer in (
        client.get("/status/none"),
        client.post("/analyze", content=b"x", headers=FORM),
        client.get("/nowhere"),
    ):
        text = answer.text
        assert str(settings.folder) not in text and "Traceback" not in text and 'File "' not in text
        assert set(answer.json()) == {"type", "title", "status", "detail", "code", "cure"}


def test_log_lines_are_single_json_objects(capsys: pytest.CaptureFixture[str]):
    import structlog
    from uvicorn.config import LOGGING_CONFIG

    from visavox.service import log

    handlers, level = logging.root.handlers[:], logging.root.level
    logging.config.dictConfig(LOGGING_CONFIG)  # as `uvicorn visavox.service.api:app` does before it imports the app
    try:
        log.set_up("api")
        structlog.get_logger("visavox.service").info("upload taken in", name=NAME)
        try:
            raise ValueError(f"secret content of {NAME}")
        except ValueError:
            logging.getLogger("uvicorn.error").exception("failed")
        lines = capsys.readouterr().err.splitlines()
    finally:
        logging.root.handlers[:], logging.root.level = handlers, level
        structlog.reset_defaults()
    first, second = (json.loads(line) for line in lines)
    assert first["event"] == "upload taken in" and "\n" not in first["name"] and "\x1b" not in first["name"]
    assert second["exception"] == "ValueError" and "secret" not in lines[1]


def test_display_names():
    assert display_name("../../etc/passwd") == "passwd" and display_name("C:\\videos\\a.mp4") == "a.mp4"
    assert display_name("") == display_name("..//") == "video"
    long = display_name("x" * 500 + ".mp4")
    assert len(long) <= 120 and long.endswith("….mp4")
    assert display_name("é.mp4") == display_name("é.mp4") == "é.mp4"


@held_by(Case("H9", "hundreds of paths, ids, methods and names", "the labels of /metrics are from fixed sets"))
def test_metrics_have_few_labels(case: Case, client: httpx.Client):
    for n in range(30):
        client.get(f"/{uuid.uuid4()}/{n}")
        client.get(f"/status/{uuid.uuid4()}")
        client.request(f"METHOD{n}", "/analyze")
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("visavox_requests_total")]
    assert len(lines) < 40
    routes = {re.search(r'route="([^"]*)"', line)[1] for line in lines}
    assert not any(re.search(r"[0-9a-f]{8}-", route) for route in routes) and "other" in routes


def test_the_queue_has_a_length_and_the_disk_a_reserve(tmp_path: Path):
    with serving(settings_of(tmp_path / "a", queue_length=2)) as client:
        answers = [upload(client, VIDEO + bytes([n]), wait=0) for n in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 503]
        assert answers[2].json()["code"] == "QUEUE_FULL" and answers[2].headers["retry-after"]
    with serving(settings_of(tmp_path / "b", disk_reserve=1 << 60)) as client:
        answer = upload(client, VIDEO)
        assert answer.status_code == 507 and answer.json()["code"] == "NO_SPACE"
        assert client.get("/readyz").status_code == 503


def test_uploads_of_one_client_are_counted_while_they_come(tmp_path: Path):
    settings = settings_of(tmp_path, uploads_per_client=2)
    with serving(settings) as client:
        begun, go_on = threading.Barrier(3), threading.Event()

        def slowly() -> Iterator[bytes]:
            yield HEAD + VIDEO
            begun.wait(10)
            go_on.wait(10)
            yield TAIL

        def post() -> int:
            return client.post("/analyze?wait=0", content=slowly(), headers=FORM).status_code

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(post) for _ in range(2)]
            begun.wait(10)
            until = time.monotonic() + 10
            while len(list((settings.folder / "incoming").iterdir())) < 2 and time.monotonic() < until:
                time.sleep(0.01)
            answer = upload(client, VIDEO + b"x", wait=0)
            assert answer.status_code == 429 and answer.json()["code"] == "TOO_MANY_UPLOADS"
            go_on.set()
            assert [each.result() for each in waiting] == [202, 202]
        assert upload(client, VIDEO + b"y", wait=0).status_code == 202


def test_a_stream_that_is_taken_up_after_the_end_ends(tmp_path: Path):
    settings = settings_of(tmp_path / "service")
    with serving(settings) as client, working(settings):
        id = upload(client, VIDEO).json()["analysisId"]
        last = client.get(f"/events/{id}").text.count("event: status")
        assert client.get(f"/events/{id}", headers={"Last-Event-ID": str(last)}, timeout=5).text == ""


def test_the_seeds_way_waits_and_the_same_content_is_answered_from_the_store(tmp_path: Path):
    settings = settings_of(tmp_path)
    with serving(settings) as client, working(settings) as worker:
        first = upload(client, VIDEO)
        assert first.status_code == 200 and first.json()["result"] == {"verdict": "Deepfake", "confidence": 90.0}
        worker.judge = lambda lease: ("failed", ("INTERNAL", ""))
        again = upload(client, VIDEO, name="other.mp4")
        assert again.status_code == 200 and again.json()["result"] == first.json()["result"]
        assert again.json()["analysisId"] != first.json()["analysisId"]
        other = upload(client, VIDEO + b"other")
        assert other.status_code == 200 and other.json()["status"] == "error" and other.json()["code"] == "INTERNAL"
        id = first.json()["analysisId"]
        assert client.post(f"/analyses/{id}/feedback", json={"label": 1}).status_code == 204
        assert client.post(f"/analyses/{id}/feedback", json={"label": 2}).status_code == 422
        assert client.post(f"/analyses/{other.json()['analysisId']}/feedback", json={"label": 1}).status_code == 409
        [kept] = (settings.folder / "feedback").iterdir()
        assert json.loads(kept.read_text())["label"] == 1 and json.loads(kept.read_text())["probability"] == 0.9
        metrics = client.get("/metrics").text
        assert 'visavox_jobs_total{outcome="Deepfake"} 1.0' in metrics and 'branch="fake"' in metrics
        assert ended(client, id)["percent"] == 100


@held_by(
    Case(
        "H3",
        "100 uploads of 4 MB at once",
        "none is lost, sha256 equal, the API stays below 300 MB, /healthz below 200 ms (p99)",
        marks=(pytest.mark.durability,),
    )
)
def test_a_hundred_uploads(case: Case, tmp_path: Path):
    from benchmarks.service import service, uploads

    checkpoint = tmp_path / "stand_in.ckpt"
    checkpoint.write_bytes(b"no checkpoint: nothing loads it")
    with service(str(checkpoint), tmp_path / "service", workers=0) as (client, pid):
        found = uploads(client, pid)
    assert found["statuses"] == {202: 100} and found["sha256 equal"] == 100
    assert found["API peak RSS MB"] < 300 and found["healthz p99 ms"] < 200, found
