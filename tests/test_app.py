"""The page: what it says with weights and without, that settings cost no second crop, and the whole of it in a browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the app's extra is not installed: pip install -e .[app]")
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def page(fresh_pair: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("VISAVOX_XCEPTION", str(fresh_pair))
    page = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60).run()
    page.sidebar.slider(key="abstain_below").set_value(0.5)  # a verdict at every confidence
    return page


def upload(page: AppTest, path: Path) -> AppTest:
    page.file_uploader[0].set_value((path.name, path.read_bytes(), "video/mp4"))
    page.run()
    assert not page.exception
    return page


def labels(page: AppTest) -> list[str]:
    return [metric.label for metric in page.metric]


def test_without_trained_weights_there_is_no_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("VISAVOX_XCEPTION", str(tmp_path / "absent.ckpt"))
    page = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=60).run()
    assert not page.exception and "make app" in page.error[0].value
    assert not page.file_uploader and not page.header


def test_an_upload_is_cropped_once_and_settings_are_answered_at_once(page, uploads: Path, monkeypatch):
    from visavox.preprocessing import pipeline

    cropped = []
    real = pipeline.Preprocessor.__call__
    spy = lambda self, path, **how: cropped.append(path) or real(self, path, **how)  # noqa: E731
    monkeypatch.setattr(pipeline.Preprocessor, "__call__", spy)
    upload(page, uploads / "sound.mp4")
    assert page.header[0].value in (":red[FAKE]", ":green[REAL]")
    assert labels(page) == ["P(fake)", "Confidence", "Video, weight 0.500", "Audio, weight 0.500"]
    page.sidebar.selectbox(key="strategy").set_value("video_trust").run()
    assert labels(page)[2:] == ["Video, weight 0.850", "Audio, weight 0.150"]
    page.sidebar.selectbox(key="strategy").set_value("adaptive").run()
    assert any("stay within 0.475 and 0.525" in note.value for note in page.info)
    page.sidebar.slider(key="frame_skip").set_value(2).run()
    assert not page.exception and len(cropped) == 1


def test_low_confidence_gives_no_verdict(page, uploads: Path):
    upload(page, uploads / "sound.mp4")
    page.sidebar.slider(key="abstain_below").set_value(0.95).run()
    assert page.header[0].value == ":orange[NO VERDICT]"


def test_truth_is_compared_with_the_verdict(page, uploads: Path):
    upload(page, uploads / "sound.mp4")
    verdict = page.header[0].value.split("[")[1].rstrip("]")
    page.radio[0].set_value(verdict).run()
    assert page.success[0].value == f"The verdict {verdict} is right."


def test_a_video_without_sound_is_judged_by_its_faces_and_says_so(page, uploads: Path):
    upload(page, uploads / "silent.mp4")
    assert "No sound: judged by the faces alone." in [note.value for note in page.info]
    assert labels(page)[2:] == ["Video, weight 1.000", "Audio, weight 0.000"] and page.metric[3].value == "missing"


def test_a_video_without_a_face_is_judged_by_its_sound_and_says_so(page, uploads: Path):
    upload(page, uploads / "faceless.mp4")
    assert "No face: judged by the sound alone." in [note.value for note in page.info]
    assert "NO VERDICT" in page.header[0].value and any("No face was found" in text.value for text in page.markdown)
    assert page.metric[2].value == "missing"


def test_what_is_no_video_is_said_in_words_under_its_own_name(page, uploads: Path):
    upload(page, uploads / "text.mp4")
    assert page.error[0].value.startswith("text.mp4: ") and "Traceback" not in page.error[0].value
    assert not page.metric


def test_the_checkpoint_is_described(page):
    words = " ".join(text.value for text in page.sidebar.markdown)
    assert "pair.ckpt" in words and "nothing synthetic at all" in words and "1 = fake" in words
    assert "demonstration" in page.warning[0].value


@pytest.fixture
def address(fresh_pair: Path) -> Iterator[str]:
    """The app, served."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.port", str(port)]
    environment = os.environ | {"VISAVOX_XCEPTION": str(fresh_pair)}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health")
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.browser
def test_the_page_in_a_browser(address: str, uploads: Path, request: pytest.FixtureRequest, tmp_path: Path):
    api = pytest.importorskip("playwright.sync_api", reason="pip install -e .[browser]")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium; on Debian: apt-get install chromium")
    video = uploads / "sound.mp4"
    if os.environ.get("VISAVOX_TEST_DATA"):
        video = next((request.getfixturevalue("clips") / "real").glob("vrt_1.*"))
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1900})
        page.goto(address)
        page.get_by_text("Upload a video, or take").wait_for(timeout=60_000)
        chooser = page.locator("input[type=file]")
        chooser.set_input_files(str(video))
        page.get_by_text("Download JSON").wait_for(timeout=120_000)
        page.get_by_text("Done in").click()  # the stages, each of which may have been too short to be seen
        for stage in ("1 of 4", "2 of 4", "3 of 4", "4 of 4"):
            page.get_by_text(stage).first.wait_for()
        page.get_by_text("Video, weight 0.500").wait_for()
        page.locator("[data-testid=stSidebar] [data-testid=stSelectbox]").first.click()
        page.get_by_text("Video trust (85 / 15)").click()
        page.get_by_text("Video, weight 0.850").wait_for(timeout=30_000)
        with page.expect_download() as download:
            page.get_by_text("Download CSV").click()
        assert Path(download.value.path()).read_text().startswith("branch,start,end,probability,weight")
        chooser.set_input_files(str(uploads / "text.mp4"))
        page.get_by_text("text.mp4: ").wait_for(timeout=60_000)
        chooser.set_input_files(str(uploads / "silent.mp4"))
        page.get_by_text("No sound: judged by the faces alone.").wait_for(timeout=60_000)
        page.screenshot(path=tmp_path / "silent.png")
        browser.close()


def test_a_name_on_the_page_is_text_and_nothing_else():
    from streamlit_app import plain

    assert plain("text.mp4: not a video (really)") == "text.mp4: not a video (really)"
    assert plain("[click](https://a.b) *x* :red[y] <b> $z$") == (
        "\\[click\\](https\\://a.b) \\*x\\* \\:red\\[y\\] \\<b\\> \\$z\\$"
    )
    assert plain("a\u202e4pm\n# b") == "a\\\\u202e4pm\\\\n\\# b"
