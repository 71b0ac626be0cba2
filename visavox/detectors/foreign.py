"""Somebody's detector in a process of its own: it may raise, hang, print, exit or take all memory, and costs one clip its score.

    with Foreign(Path("my.py")) as detector:          # a file with predict(path) -> float, or predict_bundle(bundle) -> float
        detector.kind                                  # "predict" or "predict_bundle"
        detector.predict(Path("clip.mp4"))             # -> P(fake), or ForeignError with a code and the reason

Paths go to the child and numbers come back, as JSON over a socket of its own: what it prints goes nowhere, and nothing of
what it sends is ever run. A child that is over its deadline is killed with all that it started; the next clip gets a new one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Self

from visavox.files import shown

KINDS = ("predict", "predict_bundle")
LONGEST_ANSWER = 1 << 16
"""Bytes of an answer."""
KEPT = 4096
"""Last bytes that are kept of what a child writes to stderr."""
LONGEST_REASON = 300
"""Characters of what a child says of its end."""


class ForeignError(ValueError):
    """The detector gave no score for this clip; the message says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """One of `visavox.errors.CODES`."""


class Foreign:
    """One file with a detector, and the child that runs it.

    Args:
        file: Python source with `predict(path: str) -> float` or `predict_bundle(bundle) -> float`, P(fake) in [0, 1].
        timeout: seconds that one clip may take; the first one of a child also pays for loading the file.
        memory: bytes of data that a child may hold; None sets no limit. Held on Linux.
    """

    def __init__(self, file: Path, *, timeout: float = 600.0, memory: int | None = None) -> None:
        self.file, self.timeout, self.memory = Path(file).resolve(), timeout, memory
        self.kind = ""
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._errors: _Tail | None = None

    def __enter__(self) -> Self:
        """Start the child, so that a file that cannot be loaded is refused before the first clip.

        Raises:
            ForeignError: it cannot be loaded, or has neither function.
        """
        if not self.file.is_file():
            raise ForeignError("NOT_FOUND", f"{self.file}: no such file; give one with predict(path) -> float")
        self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def predict(self, path: Path) -> float:
        """Return P(fake) of a video, or of a bundle where the detector takes bundles.

        Raises:
            ForeignError: it raised, hung, ended, or gave no number between 0 and 1.
        """
        if self._child is None:
            self._start()
        answer = self._ask({"path": str(path)})
        if "error" in answer:
            code = "OUT_OF_MEMORY" if answer["error"].startswith("MemoryError") else "INTERNAL"
            raise ForeignError(code, f"{self.kind} raised {_short(answer['error'])}")
        value = answer.get("score")
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
            or not 0 <= value <= 1
        ):
            raise ForeignError(
                "BAD_SCORE", f"{self.kind} gave {_short(answer.get('said', value))}, expected P(fake) from 0 to 1"
            )
        return float(value)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        words = [
            sys.executable,
            "-m",
            "visavox.detectors.foreign",
            str(self.file),
            str(theirs.fileno()),
            str(self.memory or 0),
        ]
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self._child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        theirs.close()
        assert self._child.stderr is not None
        self._socket, self._errors = ours, _Tail(self._child.stderr)
        greeting = self._receive(time.monotonic() + self.timeout)
        if "error" in greeting:
            self._end()
            raise ForeignError("BAD_CONFIG", f"{self.file}: cannot be loaded: {_short(greeting['error'])}")
        self.kind = greeting["kind"]

    def _ask(self, question: dict[str, str]) -> dict[str, Any]:
        assert self._socket is not None  # _start opened it
        with contextlib.suppress(OSError):  # it has ended; why stands in how it ended
            self._socket.sendall(json.dumps(question).encode() + b"\n")
        return self._receive(time.monotonic() + self.timeout)

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The child's next line; one that is over its time or has ended is cleared away, and the error says so."""
        assert self._socket is not None
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            try:
                self._socket.settimeout(max(left, 1e-3))
                part = self._socket.recv(LONGEST_ANSWER) if left > 0 else None
            except TimeoutError:
                part = None
            except OSError:
                part = b""
            if part is None:
                self._end()
                raise ForeignError("TIMED_OUT", f"no score within {self.timeout:g} s; it was ended")
            if not part or len(line) > LONGEST_ANSWER:
                raise self._ended()
            line += part
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self._end()
            raise ForeignError("INTERNAL", "its process wrote into the channel of the answers and was ended")
        return answer

    def _ended(self) -> ForeignError:
        """Clear away a child that has ended and return why."""
        child, errors = self._child, self._errors
        assert child is not None and errors is not None
        try:
            code = child.wait(5)
        except subprocess.TimeoutExpired:
            code = 0
        last = errors.last_line()
        self._end()
        how = f"with exit code {code}" if code >= 0 else f"by signal {signal.Signals(-code).name}"
        said = f": {_short(last)}" if last else ""
        return ForeignError("WORKER_DIED", f"its process ended {how}{said}")

    def _end(self) -> None:
        """End the child and all that it started."""
        child, self._child = self._child, None
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # its own session: whatever it started is in the group
            child.wait()
        for each in (self._socket, self._errors):
            if each is not None:
                each.close()
        self._socket = self._errors = None


class _Tail:
    """The last bytes of a pipe, which is read to its end in a thread, so that who writes into it never waits."""

    def __init__(self, pipe: IO[bytes]):
        self._pipe, self._kept = pipe, b""
        self._thread = threading.Thread(target=self._read, name="stderr of a detector", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe, contextlib.suppress(OSError):
            while piece := os.read(self._pipe.fileno(), 1 << 16):
                self._kept = (self._kept + piece)[-KEPT:]

    def last_line(self) -> str:
        """Return the last line, once the pipe has ended or after a second."""
        self._thread.join(1)
        return self._kept.decode(errors="replace").strip().rpartition("\n")[2]

    def close(self) -> None:
        """Wait for the end of the pipe; where a process that left its group keeps it open, no longer than a second."""
        self._thread.join(1)


def _short(text: object) -> str:
    said = shown(str(text))
    return said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]}..."


def _serve(file: str, descriptor: int, memory: int) -> None:
    """In the child: load the file, say what it has, answer one line for each line."""
    channel = socket.socket(fileno=descriptor)
    lines = channel.makefile("rb")

    def answer(**values: Any) -> None:
        channel.sendall(json.dumps(values).encode() + b"\n")

    if memory:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    sys.path.insert(0, str(Path(file).parent))
    try:
        function, kind = _loaded(file)
    except BaseException as error:
        answer(error=_described(error, file))
        return
    answer(kind=kind)
    for line in lines:
        path = json.loads(line)["path"]
        try:
            value = function(path)
        except Exception as error:  # the clip's answer: the next one may go well
            answer(error=_described(error, file))
            continue
        number = _number(value)
        answer(**({"score": number} if number is not None else {"said": f"{type(value).__name__} {value!r:.100}"}))


def _loaded(file: str) -> tuple[Any, str]:
    import importlib.util

    spec = importlib.util.spec_from_file_location("foreign_detector", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["foreign_detector"] = module
    spec.loader.exec_module(module)
    kind = next((name for name in KINDS if callable(getattr(module, name, None))), None)
    if kind is None:
        raise AttributeError("it has neither predict(path) nor predict_bundle(bundle)")
    function = getattr(module, kind)
    if kind == "predict":
        return function, kind
    from visavox.bundle import Bundle

    return (lambda path: function(Bundle.load(path, full=True))), kind


def _number(value: Any) -> float | None:
    """The value as a float, or None where it is none that JSON holds; NumPy's and torch's scalars are numbers too."""
    if isinstance(value, str | bytes | bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _described(error: BaseException, file: str) -> str:
    """`ValueError: no face (my.py line 12)`: the last line of the traceback that lies in the user's file."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    where = f" ({Path(file).name} line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {str(error)[:1000]}{where}"


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
