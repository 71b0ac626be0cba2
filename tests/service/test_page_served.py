"""The page as the service serves it, with a real checkpoint: from the upload to the verdict, and refusals in words."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cases.test_bombs import monster
from tests.service.browsing import accessible, choose, expect, states, verdict
from tests.serving import Process

pytestmark = pytest.mark.browser
PATIENCE = 120_000


@pytest.fixture(scope="module")
def service(fresh_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`visavox serve` with one worker and a tiny pair."""
    process = Process(
        fresh_pair,
        tmp_path_factory.mktemp("served") / "folder",
        "--set",
        "device=cpu",
        "--demo",
    )
    try:
        yield process.wait("/readyz")
    finally:
        if process.process.poll() is None:
            process.stop(signal.SIGKILL)


@pytest.fixture
def visit(browse: Callable[..., Any], service: Process) -> Callable[..., Any]:
    return lambda **how: browse(service.url + "/", **how)


def done(page: Any) -> Any:
    expect(verdict(page)).to_be_visible(timeout=PATIENCE)
    return page.evaluate("fetch('/analyses/' + location.hash.split('/')[2]).then(answer => answer.json())")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_from_the_upload_to_the_verdict(visit, uploads, width, scheme, tmp_path):
    video = uploads / "sound.mp4"
    own = tmp_path / f"{scheme}.mp4"
    own.write_bytes(video.read_bytes() + b"\0\0\0\x09free" + scheme[:1].encode())  # not analysed before
    page = visit(width=width, scheme=scheme)
    expect(page.get_by_test_id("model")).to_contain_text("xception_fused, 2 branches")
    expect(page.get_by_role("note")).to_contain_text("Demo model.")
    choose(page, own)
    expect(page.locator("[data-state=active]")).to_have_count(1)
    seen, until = set(), time.monotonic() + 120
    while not verdict(page).count() and time.monotonic() < until:
        seen.update(page.get_by_test_id("stage-name").all_text_contents())
        page.wait_for_timeout(20)
    assert {"Extracting frames", "Running models"} <= seen
    dossier = done(page)
    said = {"fake": "Deepfake", "real": "Authentic", "undetermined": "Undetermined"}[dossier["analysis"]["verdict"]]
    expect(verdict(page)).to_have_attribute("data-verdict", said)
    expect(verdict(page)).to_contain_text(f"P(fake) {dossier['analysis']['probability']:.3f}")
    expect(verdict(page)).to_contain_text(dossier["why"])
    expect(page.get_by_test_id("branch")).to_have_count(2)
    expect(page.get_by_test_id("observations")).to_contain_text("h264")
    expect(page.get_by_test_id("timeline")).to_be_visible()
    page.get_by_text("How this came about").click()
    assert states(page) == ["done", "done", "done", "skipped", "done", "done"]
    with page.expect_download(timeout=30_000) as report:
        page.get_by_role("button", name="Report (HTML)").click()
    assert dossier["sha256"] in Path(report.value.path()).read_text()
    accessible(page)


def test_a_video_without_sound_and_one_without_a_face_say_so(visit, uploads):
    page = visit()
    choose(page, uploads / "silent.mp4")
    assert not done(page)["media"]["hasSound"]
    expect(page.get_by_test_id("branch").nth(1)).to_contain_text("no opinion")
    expect(page.get_by_text("No sound: judged by the faces alone.")).to_be_visible()
    page.get_by_role("button", name="Analyse another video").click()
    choose(page, uploads / "faceless.mp4")
    done(page)
    expect(verdict(page)).to_have_attribute("data-verdict", "Undetermined")
    expect(verdict(page)).to_contain_text("No face was found")
    expect(page.get_by_test_id("branch").nth(0)).to_contain_text("no opinion")


@pytest.mark.parametrize("kind", ["text", "bomb", "cut"])
def test_what_cannot_be_judged_is_refused_in_words(visit, uploads, tmp_path, kind):
    path = {"text": uploads / "text.mp4"}.get(kind, tmp_path / f"{kind}.mp4")
    if kind == "bomb":
        monster(path)
        assert path.stat().st_size < 500_000
    if kind == "cut":
        whole = (uploads / "sound.mp4").read_bytes()
        path.write_bytes(whole[: len(whole) // 3])
    page = visit()
    choose(page, path)
    failure = page.get_by_test_id("failure")
    expect(failure).to_be_visible(timeout=PATIENCE)
    code = {"text": "NOT_A_VIDEO", "bomb": "TOO_LARGE", "cut": "CORRUPT_CONTAINER"}[kind]
    expect(failure).to_contain_text(code)
    assert "/tmp" not in failure.text_content() and "Traceback" not in failure.text_content()
    accessible(page)


def test_an_upload_that_is_cut_in_the_middle_leaves_nothing_behind(visit, service, uploads):
    content = (uploads / "sound.mp4").read_bytes()
    part = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + content[: len(content) // 2]
    )
    head = f"POST /analyze?wait=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {2 * len(content)}\r\n"
    jobs = set(service.folder.glob("jobs/*"))

    def partial() -> list[int]:
        return [path.stat().st_size for path in service.folder.glob("incoming/*")]

    with socket.create_connection(("127.0.0.1", service.port)) as line:
        line.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode() + part)
        until = time.monotonic() + 20
        while not any(partial()) and time.monotonic() < until:
            time.sleep(0.02)
        assert any(partial())  # half of it lies on the disk
    while partial() and time.monotonic() < until:
        time.sleep(0.02)
    assert not partial() and set(service.folder.glob("jobs/*")) == jobs
    page = visit()
    choose(page, uploads / "sound.mp4")
    done(page)


def test_a_reload_in_the_middle_finds_the_job_again(visit, uploads, tmp_path):
    own = tmp_path / "again.mp4"
    own.write_bytes((uploads / "sound.mp4").read_bytes() + b"\0\0\0\x09freer")
    page = visit()
    choose(page, own)
    expect(page.get_by_test_id("stage-name")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="again.mp4").or_(verdict(page))).to_be_visible()
    assert done(page)["fileName"] == "again.mp4"
    page.goto(page.url.split("#")[0])
    expect(page.get_by_test_id("history")).to_contain_text("again.mp4")


@pytest.mark.data
def test_a_real_clip(visit, clips):
    page = visit()
    choose(page, next((clips / "real").glob("pcavs_00473.*")))
    done(page)
    expect(page.locator("video")).to_be_visible()
