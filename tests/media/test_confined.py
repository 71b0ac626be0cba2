"""The decoder that may touch nothing: equal to the one that may, and what a hostile one can do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.media import stand_ins
from visavox.config import Config, ConfigError
from visavox.media import MediaError, confined, write_video
from visavox.media import open_video as open_here
from visavox.media.confined import sandbox
from visavox.preprocessing import tools

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what confines is Linux's")
full = pytest.mark.skipif(bool(confined.lacking()), reason=f"this kernel lacks {confined.lacking()}")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    rng = np.random.default_rng(0)
    frames = [np.full((96, 128, 3), 8 * n, np.uint8) for n in range(25)]
    write_video(path, frames, fps=25, audio=(rng.normal(0, 3000, 16000)).astype(np.int16), sample_rate=16000)
    return path


def everything(video):
    with video:
        frames = [frame.copy() for frame in video.frames()]
        return video.info, frames, video.audio(), video.notes


@linux
def test_gives_what_the_decoder_of_this_process_gives(clip):
    for seconds in (None, 0.4):
        info, frames, sound, notes = everything(open_here(clip, max_seconds=seconds))
        again = everything(confined.open_video(clip, max_seconds=seconds))
        assert again[0] == info and again[3] == notes
        np.testing.assert_array_equal(np.stack(again[1]), np.stack(frames))
        np.testing.assert_array_equal(again[2], sound)


@linux
def test_a_frame_shown_twice_is_one_array(tmp_path):
    path = tmp_path / "slow.mp4"
    write_video(path, [np.full((64, 64, 3), 40 * n, np.uint8) for n in range(4)], fps=5)
    with confined.open_video(path) as video:
        frames = list(video.frames())
    assert len(frames) == 20 and frames[0] is frames[1]
    assert len({id(frame) for frame in frames}) == 4


@linux
def test_refusals_keep_their_reason_and_the_child_goes_on(tmp_path, clip):
    from visavox.media.confined.decoder import decoder

    text = tmp_path / "text.mp4"
    text.write_text("no video " * 100)
    child = decoder().process.pid
    with pytest.raises(MediaError) as refused:
        confined.open_video(text)
    with pytest.raises(MediaError) as expected:
        open_here(text)
    assert (refused.value.reason, str(refused.value)) == (expected.value.reason, str(expected.value))
    with pytest.raises(MediaError):
        confined.open_video(tmp_path / "missing.mp4")
    assert len(everything(confined.open_video(clip))[1]) == 25
    assert decoder().process.pid == child


@linux
def test_a_video_closed_early_costs_a_child_and_no_more(clip):
    with confined.open_video(clip) as video:
        next(video.frames())
    assert len(everything(confined.open_video(clip))[1]) == 25


@linux
def test_sound_is_as_long_as_frames_at_any_rate(tmp_path):
    """A few frames of a long video: their rate is no round number, and its fraction is off by a sample after some seconds."""
    path = tmp_path / "long.mp4"
    write_video(
        path, [np.full((64, 64, 3), 4 * n, np.uint8) for n in range(45)], fps=1, audio=np.ones(16000 * 45, np.int16)
    )
    for fps in (64 / 45.211, 0.31416):
        expected, found = (everything(each(path, fps=fps))[2] for each in (open_here, confined.open_video))
        np.testing.assert_array_equal(found, expected)


@linux
def test_two_videos_are_read_side_by_side(clip):
    from visavox.media.confined.decoder import decoder

    with confined.open_video(clip) as one, confined.open_video(clip, fps=12.5) as other:
        pairs = list(zip(one.frames(), other.frames()))
        assert len(pairs) == 12 and pairs[11][0].mean() != pairs[11][1].mean()
    child = decoder()
    assert len(everything(confined.open_video(clip))[1]) == 25 and decoder() is child


@linux
def test_a_child_is_replaced_after_its_share(clip, monkeypatch):
    from visavox.media.confined import decoder

    monkeypatch.setattr(decoder, "PER_CHILD", 1)
    first = decoder.decoder()
    everything(confined.open_video(clip))
    assert decoder.decoder() is not first
    assert first.process.poll() is not None


def test_a_thread_that_ends_takes_its_child_along(clip):
    """No process without anybody to wait for it, no open file: a server has threads that come and go."""
    from visavox.media.confined import decoder

    left = []

    def work() -> None:
        everything(confined.open_video(clip))
        left.append((decoder.decoder().process.pid, decoder.decoder().channel.connection))

    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        (thread := threading.Thread(target=work)).start()
        thread.join()
    assert len({pid for pid, _ in left}) == 2
    for pid, connection in left:
        assert not Path(f"/proc/{pid}").exists() and connection.fileno() == -1
    assert len(os.listdir("/proc/self/fd")) <= before


FORBIDDEN = [
    "read_a_file",
    "read_the_environment",
    "list_a_folder",
    "write_a_file",
    "open_a_socket",
    "open_a_datagram_socket",
    "fork",
    "run_a_program",
    "kill_the_parent",
    "raise_its_limits",
]
ENDED = {
    "take_memory": "MemoryError",
    "crash": "SIGSEGV",
    "leave": "exit code 0",
    "say_much": "a message of 4294967295 bytes",
    "say_no_json": "something unknown",
    "HugeWidth": "width 1099511627776",
    "ManyFrames": "more than 26 frames",
    "OtherShape": "could not broadcast",
    "MuchSound": "1000000 samples of sound where 1920 were expected",
    "ManyNotes": "notes that are no list",
}


def run(clip, monkeypatch, stand_in, **how):
    """Decode a clip with a stand-in for a decoder."""
    from visavox.media.confined import decoder

    monkeypatch.setattr(
        decoder._mine, "decoder", decoder.Decoder(stand_in=f"tests.media.stand_ins:{stand_in}"), raising=False
    )
    return everything(confined.open_video(clip, **{"max_seconds": 1, **how}))


@linux
@full
@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_hostile_decoder_is_refused(what, clip, monkeypatch):
    with pytest.raises(MediaError, match="not permitted|not allowed") as ended:
        run(clip, monkeypatch, what)
    assert ended.value.reason == "decoder" and ended.value.code == "DECODER_FAILED"
    assert not stand_ins.MARK.exists()
    assert len(everything(confined.open_video(clip))[1]) == 25


@linux
@full
@pytest.mark.parametrize("what", ENDED)
def test_a_broken_decoder_costs_its_video_alone(what, clip, monkeypatch):
    with pytest.raises(MediaError, match=ENDED[what]) as ended:
        run(clip, monkeypatch, what)
    assert ended.value.reason == "decoder"
    assert str(clip) in str(ended.value)


@linux
def test_a_decoder_that_spins_is_ended(clip, monkeypatch):
    from visavox.media.confined import decoder

    monkeypatch.setattr(decoder, "GRACE", 0.5)
    began = time.monotonic()
    with pytest.raises(MediaError, match="took too long|SIGXCPU"):
        run(clip, monkeypatch, "spin")
    assert time.monotonic() - began < 30


@linux
def test_the_tame_one_passes(clip, monkeypatch):
    info, frames, sound, notes = run(clip, monkeypatch, "Tame")
    assert (info.width, len(frames), len(sound), notes) == (64, 3, 1920, ["tame"])


@linux
def test_the_child_knows_no_secret(monkeypatch):
    from visavox.media.confined import decoder

    monkeypatch.setenv("WANDB_API_KEY", "secret")
    child = decoder.Decoder()
    try:
        assert b"secret" not in Path(f"/proc/{child.process.pid}/environ").read_bytes()
        assert child.layers == tuple(layer for layer in sandbox.LAYERS if layer not in confined.lacking())
    finally:
        child.kill()


@linux
def test_the_child_dies_with_a_parent_that_is_killed(clip):
    script = (
        "import sys, time\nfrom visavox.media.confined.decoder import decoder\n"
        "print(decoder().process.pid, flush=True)\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(child)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_require_refuses_a_system_that_lacks_something(clip, monkeypatch):
    monkeypatch.setattr(sandbox, "offered", lambda: {"no_new_privs": "", "rlimits": ""})
    with pytest.raises(ConfigError, match="lacks landlock, seccomp"):
        tools.check_weights(Config(confine="require", face_detector="haar", sync="off"))
    with pytest.raises(sandbox.SandboxError, match="lacks landlock, seccomp"):
        confined.open_video(clip, confine="require")


@pytest.fixture
def insists(monkeypatch):
    monkeypatch.setattr(confined, "_insisted", False)  # and so again after the test
    tools.confine("require")


@full
def test_require_reaches_whatever_reads_a_file(clip, insists, monkeypatch):
    """Published judges, facts of the container, thumbnails and pictures have no configuration that could say it."""
    from visavox.preprocessing.stills import Stills
    from visavox.preprocessing.voice_input import heard
    from visavox.report.observations import manifest
    from visavox.report.thumbnails import thumbnail

    picture = clip.with_name("picture.png")
    cv2.imwrite(str(picture), np.full((48, 64, 3), 7, np.uint8))
    assert manifest(clip).value == "not looked for"
    readers = {
        "stills": lambda: list(Stills(clip, 2)),
        "a picture": lambda: list(Stills(picture, 2)),
        "sound": lambda: heard(clip, 16000, 1),
        "facts": lambda: confined.describe(clip),
        "thumbnail": lambda: thumbnail(clip),
        "off": lambda: everything(confined.open_video(clip, confine="off")),
    }
    for read in readers.values():
        assert read()
    monkeypatch.setattr(sandbox, "offered", lambda: {"no_new_privs": "", "rlimits": ""})
    for read in readers.values():
        with pytest.raises(sandbox.SandboxError, match="lacks landlock, seccomp"):
            read()


@linux
def test_pictures_are_decoded_in_a_child_of_their_own(tmp_path, monkeypatch):
    from PIL import Image

    from visavox import media
    from visavox.media.confined.decoder import decoder

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 70, 4), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    for kind, mode in (("jpg", "RGB"), ("png", "RGBA"), ("bmp", "RGB"), ("webp", "RGBA"), ("tiff", "RGB")):
        path = tmp_path / f"picture.{kind}"
        Image.fromarray(pixels).convert(mode).save(path, **({"exif": turned} if kind != "bmp" else {}))
        found = confined.read_image(path)
        np.testing.assert_array_equal(found, media.read_image(path))
        assert found.shape[:2] == ((90, 70) if kind == "bmp" else (70, 90))
    path.write_bytes(path.read_bytes()[:200])
    for read in (media.read_image, confined.read_image):
        with pytest.raises(MediaError) as refused:
            read(path)
        assert refused.value.reason == "truncated"
    assert decoder("pictures").process.pid != decoder().process.pid
    with monkeypatch.context() as patch:
        patch.setattr("visavox.media.image.read_image", None)  # not in this process
        assert confined.read_image(tmp_path / "picture.png").shape == (70, 90, 3)


@linux
def test_a_picture_that_costs_a_child_has_a_cure_for_pictures(tmp_path, monkeypatch):
    from visavox.media.confined import decoder

    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    child = decoder.Decoder("pictures", stand_in="tests.media.stand_ins:ManyNotes")
    monkeypatch.setattr(decoder._mine, "of_pictures", child, raising=False)
    with pytest.raises(MediaError, match=r"NEW\.png"):
        confined.read_image(path)


def test_a_kind_that_pillow_was_built_without_is_left_out(monkeypatch):
    from visavox.media import image

    monkeypatch.setattr(image, "KINDS", ("NONE", "PNG"))
    image.prepare()


@linux
@full
def test_the_child_for_pictures_has_given_up_the_same(tmp_path):
    from visavox.media.confined.decoder import decoder

    assert decoder("pictures").layers == sandbox.LAYERS


def test_off_decodes_here(clip):
    assert isinstance(confined.open_video(clip, confine="off"), type(open_here(clip)))


@linux
def test_where_no_process_can_be_started_the_way_out_is_named(clip, monkeypatch):
    from visavox.media.confined import decoder

    monkeypatch.setattr(decoder, "START_PATIENCE", 0.0)
    with pytest.raises(RuntimeError, match="confine=off"):
        decoder.Decoder()


@linux
def test_the_filter_lets_pass_what_it_names_and_nothing_else():
    """Run the program as the kernel would."""

    def decide(calls, call, arguments=(0,) * 6, arch=None):
        seen = {0: call, 4: calls.arch if arch is None else arch} | {16 + 8 * n: a for n, a in enumerate(arguments)}
        at, held = 0, 0
        steps = sandbox.program(calls)
        while True:
            code, yes, no, operand = steps[at]
            at += 1
            if code == sandbox.LOAD:
                held = seen[operand]
            elif code == sandbox.RETURN:
                return operand
            else:
                holds = {
                    sandbox.EQUAL: held == operand,
                    sandbox.AT_LEAST: held >= operand,
                    sandbox.ANY_BIT: bool(held & operand),
                }
                at += yes if holds[code] else no

    for calls in sandbox.CALLS.values():
        allowed = {call for call in range(600) if decide(calls, call) == sandbox.ALLOW}
        assert allowed == {*calls.allowed, calls.mmap, calls.mprotect}
        assert decide(calls, calls.allowed[0], arch=0) == sandbox.DENY
        assert decide(calls, calls.clone, (sandbox.CLONE_THREAD,)) == sandbox.ALLOW
        assert decide(calls, calls.mmap, (0, 0, sandbox.PROT_EXEC)) == sandbox.DENY
        assert decide(calls, calls.clone3) == sandbox.ABSENT
        assert decide(calls, 0x40000000) == sandbox.DENY
    assert os.name == "posix"


@linux
def test_describes_a_video_as_this_process_does_and_keeps_the_child(clip):
    here, there = confined.describe(clip, confine="off"), confined.describe(clip)
    assert there == here and here.info.width == 128
    names = {name for name, _, _ in here.hints}
    assert {"bit rate", "encoder's own words", "bits per pixel"} <= names
    from visavox.media.confined.decoder import decoder

    before = decoder().process.pid
    assert confined.describe(clip) == here and decoder().process.pid == before
