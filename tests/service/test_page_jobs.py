"""The page in headless Chromium: reloads, tabs, a service that goes away and comes back, keys, what is kept and deleted."""

import json
import shutil
from pathlib import Path

import pytest

from tests.service.browsing import accessible, choose, expect, until, verdict

pytestmark = pytest.mark.browser


def test_a_reload_finds_the_job_again_and_the_same_file_its_picture(visit, api, clip, tmp_path):
    api.pace = None
    page = visit()
    choose(page, clip)
    api.step(times=4)
    expect(page.get_by_test_id("stage-name")).to_have_text("Extracting frames")
    page.reload()
    expect(page.get_by_role("heading", name="speech.mp4")).to_be_visible()
    until(page, "document.querySelectorAll('[data-state=done]').length === 2")
    api.step(times=6)
    expect(verdict(page)).to_be_visible()
    expect(page.locator("video")).to_have_count(0)
    other = tmp_path / "other.mp4"
    other.write_bytes(bytes(len(clip.read_bytes())))
    page.get_by_label("The analysed video").set_input_files(str(other))
    expect(page.get_by_text("That is another file")).to_be_visible()
    page.get_by_label("The analysed video").set_input_files(str(clip))
    expect(page.locator("video")).to_be_visible()


def test_back_and_forward_move_between_the_start_and_the_analysis(visit, api, clip):
    api.pace = None
    page = visit()
    choose(page, clip)
    expect(page.get_by_test_id("stage-name")).to_have_text("Queued")
    page.go_back()
    expect(page.get_by_test_id("history")).to_contain_text("Queued, 0 %")
    api.step(times=9)
    expect(page.get_by_test_id("history")).to_contain_text("Deepfake")
    page.go_forward()
    expect(verdict(page)).to_be_visible()
    expect(page.locator("video")).to_be_visible()


def test_two_tabs_follow_their_own_jobs_and_share_the_list(visit, api, clip):
    api.pace = None
    first = visit()
    second = first.context.new_page()
    second.goto(api.address)
    choose(first, clip)
    expect(first.get_by_test_id("stage-name")).to_have_text("Queued")
    expect(second.get_by_test_id("history")).to_contain_text("speech.mp4")
    other = clip.with_name("other.mp4")
    shutil.copy(clip, other)
    choose(second, other)
    expect(second.get_by_test_id("stage-name")).to_have_text("Queued")
    one, two = api.jobs.values()
    two.analysis = None
    api.step(one, 9)
    expect(verdict(first)).to_contain_text("speech.mp4")
    expect(second.get_by_test_id("stage-name")).to_have_text("Queued")
    kept = second.evaluate("JSON.parse(localStorage['visavox.analyses'])")
    assert kept == [two.id, one.id]
    assert second.evaluate("Object.keys(localStorage)") == ["visavox.analyses"]


def test_the_list_outlives_a_reload_and_drops_what_the_service_forgot(visit, api, clip):
    page = visit()
    choose(page, clip)
    expect(verdict(page)).to_be_visible()
    page.goto(api.address)
    page.reload()
    expect(page.get_by_test_id("history")).to_contain_text("speech.mp4")
    accessible(page)
    [gone] = api.jobs
    api.jobs.clear()
    page.reload()
    expect(page.get_by_test_id("history")).to_have_count(0)
    page.goto(f"{api.address}/#/analysis/{gone}")
    expect(page.get_by_test_id("failure")).to_contain_text("The service does not know this analysis.")


def test_offline_it_says_so_and_goes_on_by_itself(visit, api, clip):
    api.pace, api.events_per_stream = None, 1
    page = visit()
    choose(page, clip)
    expect(page.get_by_test_id("stage-name")).to_have_text("Queued")
    page.context.set_offline(True)
    expect(page.get_by_test_id("lost")).to_be_visible()
    accessible(page)
    api.step(times=9)
    api.events_per_stream = None
    page.context.set_offline(False)
    expect(verdict(page)).to_be_visible()


def test_opened_without_the_service_it_says_so_and_waits(visit, api):
    api.faults |= {"/limits": 503, "/model": 503}
    page = visit()
    expect(page.get_by_role("alert")).to_contain_text("The queue is full.")
    api.faults.clear()
    expect(page.get_by_test_id("limits")).to_contain_text("Up to 4.0 MB")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_cut_stream_is_taken_up_where_it_ended(visit, api, clip):
    api.pace, api.events_per_stream = 0.1, 4
    page = visit()
    choose(page, clip)
    expect(verdict(page)).to_be_visible()
    places = [headers.get("Last-Event-ID") for asked, headers in api.asked if asked.startswith("GET /events")]
    assert places == [None, "4", "8"]


def test_where_no_events_come_the_status_is_asked_for(visit, api, clip):
    api.faults["/events"] = 503
    page = visit()
    choose(page, clip)
    expect(verdict(page)).to_be_visible()
    assert any(asked.startswith("GET /status") for asked, _ in api.asked)


def test_everything_is_reached_by_keys(visit, api, clip):
    page = visit()
    page.on(
        "filechooser", lambda _: None
    )  # from now on no dialogue opens: asked for only at the key, it may come too late
    choose(page)

    def press_until(words: str, back: bool = False) -> None:
        for _ in range(40):
            page.keyboard.press("Shift+Tab" if back else "Tab")
            if words in page.evaluate("document.activeElement.closest('a, button, summary')?.textContent ?? ''"):
                return
        raise AssertionError(f"no tab stop says {words!r}")

    press_until("Choose a video")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(str(clip))
    expect(page.get_by_role("heading", name="Deepfake")).to_be_focused()
    expect(page.get_by_test_id("announcement")).to_contain_text("Verdict: Deepfake, confidence 93 %.")
    press_until("Play from")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('video').currentTime >= 1.2 || !document.querySelector('video').paused")
    press_until("How this came about")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Checkpoint, sha256")).to_be_visible()
    press_until("Delete")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    accessible(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert api.jobs
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    press_until("Delete", back=True)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Is this video forged?")).to_be_focused()
    assert not api.jobs


def test_a_click_on_a_second_seeks_to_it(visit, api, clip):
    page = visit()
    choose(page, clip)
    until(page, "document.querySelector('video')?.readyState >= 1")
    line = page.get_by_test_id("timeline")
    box = line.bounding_box()
    line.click(position={"x": box["width"] * 0.75, "y": 60})
    until(page, "Math.abs(document.querySelector('video').currentTime - 3) < 0.05")


def test_what_is_kept_said_and_deleted(visit, api, clip, tmp_path):
    page = visit()
    choose(page, clip)
    expect(verdict(page)).to_be_visible()
    [job] = api.jobs.values()
    with page.expect_download() as data:
        page.get_by_role("button", name="Data (JSON)").click()
    assert data.value.suggested_filename == "speech.json"
    kept = json.loads(Path(data.value.path()).read_text())
    assert kept["analysis"]["probability"] == 0.93 and kept["analysisId"] == job.id
    with page.expect_download() as report:
        page.get_by_role("button", name="Report (HTML)").click()
    assert report.value.suggested_filename == "speech.html"
    assert "<title>report" in Path(report.value.path()).read_text()
    page.get_by_role("button", name="It is a deepfake").click()
    expect(page.get_by_test_id("said")).to_contain_text("Thank you")
    assert api.feedback == [(job.id, 1)]
    page.get_by_role("button", name="Delete", exact=True).first.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Is this video forged?")).to_be_visible()
    assert not api.jobs and page.evaluate("localStorage['visavox.analyses']") == "[]"


def test_a_guarded_service_is_asked_with_the_token(visit, api, clip):
    api.token = "a word of sixteen"
    page = visit()
    field = page.get_by_label("Token")
    accessible(page)
    field.fill("a wrong word")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("is not the right one")).to_be_visible()
    field.fill(api.token)
    page.get_by_role("button", name="Go on").click()
    choose(page, clip)
    expect(verdict(page)).to_be_visible()
    assert all("sixteen" not in asked for asked, _ in api.asked)
    assert page.evaluate("JSON.stringify(localStorage)").count("sixteen") == 0
    assert {headers.get("Authorization") for asked, headers in api.asked if "/events" in asked} == {
        f"Bearer {api.token}"
    }


def test_where_less_motion_is_wanted_nothing_moves_on_its_own(visit, api, clip):
    api.pace = None
    endless = "document.getAnimations().filter(one => one.effect.getTiming().iterations === Infinity).length"
    for wanted, moving in [("no-preference", True), ("reduce", False)]:
        page = visit(reduced_motion=wanted)
        choose(page, clip)
        expect(page.get_by_test_id("stage-name")).to_have_text("Queued")
        api.step(times=3)
        expect(page.locator("[data-state=active]")).to_have_count(1)
        page.wait_for_timeout(500)
        before = page.locator("[data-testid=pipeline]").screenshot()
        page.wait_for_timeout(400)
        same = page.locator("[data-testid=pipeline]").screenshot() == before
        assert (page.evaluate(endless) > 0 or not same) is moving
