"""The page in headless Chromium, before a stand-in for the service whose pace and faults the tests decide: one upload."""

import pytest

from tests.service.browsing import accessible, choose, expect, states, until, verdict
from visavox.media import write_video
from visavox.synthetic.clips import render

pytestmark = pytest.mark.browser

SIZES = [(1280, "light"), (390, "dark"), (360, "light"), (1440, "dark")]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_video_is_uploaded_its_stages_seen_and_its_verdict_read(visit, api, clip, width, scheme):
    api.pace = None
    page = visit(width=width, scheme=scheme)
    choose(page)
    accessible(page)
    choose(page, clip)
    expect(page.get_by_test_id("stage-name")).to_have_text("Queued")
    seen = []
    for stage, node in [("ingest", 0), ("container", 1), ("faces", 2), ("voice", 2), ("sync", 2), ("gate", 3)]:
        api.step()
        expect(page.locator("[data-state=active]")).to_have_count(1)
        until(
            page,
            f"document.querySelectorAll('[data-testid=pipeline] [data-state]')[{node}].dataset.state === 'active'",
        )
        seen.append((stage, states(page)))
    assert seen[-1][1] == ["done", "done", "done", "active", "waiting", "waiting"]
    expect(page.get_by_test_id("stage-name")).to_have_text("Running models")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "45")
    expect(verdict(page)).to_have_count(0)
    accessible(page)
    api.step(times=3)
    expect(verdict(page)).to_have_attribute("data-verdict", "Deepfake")
    expect(page.get_by_test_id("confidence")).to_have_text("93 %")
    expect(verdict(page)).to_contain_text("On 240 labelled videos (held-out clips), 2026-11-01.")
    expect(verdict(page)).to_contain_text("most of all between 1.2 and 2.4 s")
    expect(page.get_by_test_id("branch")).to_have_count(5)
    expect(page.get_by_test_id("branch").nth(3)).to_contain_text("the clip has no sound")
    expect(page.get_by_test_id("observations")).to_contain_text("None of it enters the score")
    page.get_by_text("How this came about").click()
    expect(page.get_by_text("ab" * 32)).to_be_visible()
    accessible(page)


@pytest.mark.parametrize(("said", "shown"), [("Authentic", "94 %"), ("Undetermined", None)])
def test_every_verdict_is_the_services_own(visit, api, clip, said, shown):
    api.verdict = said
    page = visit()
    choose(page, clip)
    expect(verdict(page)).to_have_attribute("data-verdict", said)
    if shown:
        expect(page.get_by_test_id("confidence")).to_have_text(shown)
    else:
        expect(page.get_by_test_id("confidence")).to_have_count(0)
        expect(verdict(page)).to_contain_text("No verdict")
    accessible(page)


def test_a_detector_without_a_time_line_says_so(visit, api, clip):
    api.timeline = False
    page = visit()
    choose(page, clip)
    expect(page.get_by_text("it has no time line")).to_be_visible()
    expect(page.get_by_test_id("timeline")).to_have_count(0)


def test_a_demo_model_is_called_one(visit, api, clip):
    api.demo = True
    page = visit()
    expect(page.get_by_role("note")).to_contain_text("Demo model.")
    choose(page, clip)
    expect(verdict(page)).to_contain_text("demo model")
    accessible(page)


def test_a_text_file_is_refused_in_words_with_the_cure(visit, api, clip, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("text, and no video\n" * 20)
    page = visit(width=390)
    choose(page, text)
    failure = page.get_by_test_id("failure")
    for words in ("It is no video file of a known kind.", "text.mp4", "Convert it to MP4.", "NOT_A_VIDEO"):
        expect(failure).to_contain_text(words)
    expect(page.get_by_role("heading", name="It is no video file")).to_be_focused()
    accessible(page)
    page.get_by_role("button", name="Choose another video").click()
    choose(page, clip)
    expect(verdict(page)).to_be_visible()


def test_what_the_limits_forbid_is_not_sent(visit, api, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "big.mp4").write_bytes(bytes(5 << 20))
    (tmp_path / "letter.docx").write_bytes(b"PK")
    small = render(1, 1, 1.0, 256)
    write_video(tmp_path / "small.mp4", small.frames[:, ::10, ::10].repeat(1, 1), None, fps=25)
    page = visit()
    for name, words in [
        ("empty.mp4", "The file is empty"),
        ("big.mp4", "up to 4.0 MB are taken"),
        ("letter.docx", "“.docx” is no video"),
        ("small.mp4", "each side needs 32"),
    ]:
        choose(page, tmp_path / name)
        expect(page.get_by_test_id("failure")).to_contain_text(words)
        page.get_by_role("button", name="Choose another video").click()
    page.evaluate(DROP, ["one.mp4", "two.mp4"])
    expect(page.get_by_test_id("failure")).to_contain_text("2 files were given at once")
    assert not any(asked.startswith("POST") for asked, _ in api.asked)


DROP = """names => {
    const carried = new DataTransfer();
    for (const name of names) carried.items.add(new File(["moving pictures"], name, { type: "video/mp4" }));
    const target = document.querySelector("main");
    for (const type of ["dragover", "drop"])
        target.dispatchEvent(new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""


def test_a_video_is_dropped_anywhere_on_the_page(visit, api):
    page = visit()
    choose(page)
    page.evaluate(DROP, ["dropped.mp4"])
    expect(verdict(page)).to_contain_text("dropped.mp4")
    [job] = api.jobs.values()
    assert job.content == b"moving pictures"


def test_an_analysis_that_fails_says_why(visit, api, clip):
    api.error = ("CORRUPT_CONTAINER", "speech.mp4: the file was cut off. Copy it again from its source.")
    page = visit()
    choose(page, clip)
    failure = page.get_by_test_id("failure")
    expect(failure).to_contain_text("the file was cut off. Copy it again from its source.")
    expect(failure).to_contain_text("CORRUPT_CONTAINER")
    expect(page.get_by_test_id("announcement")).to_contain_text("This video could not be analysed.")
    api.error = None
    page.get_by_role("button", name="Try again").click()
    expect(verdict(page)).to_be_visible()


def test_a_full_queue_can_be_tried_again_without_choosing_anew(visit, api, clip):
    api.faults["/analyze"] = 503
    page = visit()
    choose(page, clip)
    expect(page.get_by_test_id("failure")).to_contain_text("The queue is full.")
    api.faults.clear()
    page.get_by_role("button", name="Try again").click()
    expect(verdict(page)).to_be_visible()


def test_an_upload_shows_its_progress_and_can_be_given_up(visit, api, clip):
    page = visit()
    page.route("**/analyze*", lambda route: None)
    choose(page, clip)
    expect(page.get_by_role("progressbar", name="Upload")).to_be_visible()
    expect(page.get_by_role("heading", name="speech.mp4")).to_be_focused()
    accessible(page)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Is this video forged?")).to_be_focused()
    assert not api.jobs
