"""Decoders that misbehave, run in the confined child in place of `visavox.media.open_video`."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

import numpy as np

from visavox.media.video import MediaInfo

MARK = Path(os.environ.get("TMPDIR", "/tmp")) / "written by a decoder"


class Tame:
    """A video of three black frames, as a well-behaved decoder would give it."""

    width, height = 64, 48

    def __init__(self, file, **how):
        self.file, self.notes = file, ["tame"]
        self.info = MediaInfo("mov", "h264", self.width, self.height, "yuv420p", 25.0, 1.0, 0, "1:1", None, None, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def frames(self):
        for _ in range(3):
            yield np.zeros((48, 64, 3), np.uint8)

    def audio(self):
        return np.ones(3 * 640, np.int16)


def doing(what):
    """A decoder that does something before its first frame."""

    class Doing(Tame):
        def frames(self):
            what()
            yield from super().frames()

    return Doing


def say(data):
    """Say something to the parent that the child would never say."""
    os.write(int(sys.argv[1]), data)


read_a_file = doing(lambda: Path("/etc/passwd").read_text())
read_the_environment = doing(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes())
list_a_folder = doing(lambda: os.listdir("/"))
write_a_file = doing(lambda: MARK.write_text("x"))
open_a_socket = doing(lambda: socket.create_connection(("127.0.0.1", 9)))
open_a_datagram_socket = doing(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
fork = doing(os.fork)
run_a_program = doing(lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]))
kill_the_parent = doing(lambda: os.kill(os.getppid(), signal.SIGTERM))
raise_its_limits = doing(lambda: __import__("resource").setrlimit(0, (10**6, 10**6)))
take_memory = doing(lambda: np.ones(8 << 30, np.uint8))
crash = doing(lambda: ctypes.string_at(0))
leave = doing(lambda: os._exit(0))
say_much = doing(lambda: say(b"\xff" * 64))
say_no_json = doing(lambda: say(b"\x04\x00\x00\x00oops"))


def spin(file, **how):
    while True:
        pass


class HugeWidth(Tame):
    width = 2**40


class ManyFrames(Tame):
    def frames(self):
        while True:
            yield np.zeros((48, 64, 3), np.uint8)


class OtherShape(Tame):
    def frames(self):
        yield np.zeros((480, 640, 3), np.uint8)


class MuchSound(Tame):
    def audio(self):
        return np.ones(10**6, np.int16)


class ManyNotes(Tame):
    def __init__(self, file, **how):
        super().__init__(file, **how)
        self.notes = ["note"] * 5000
