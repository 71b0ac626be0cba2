"""Take one video in: multipart/form-data straight to a file, hashed on the way, never held in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO
from weakref import WeakKeyDictionary

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from visavox.service.kinds import HEAD, kind_of
from visavox.service.problems import Problem

FIELD = "file"
MOST_PARTS = 16
"""Parts that a form may have before it is refused."""
MOST_HEADER_BYTES = 16 << 10
"""Of the head of a part."""
ROOM_BYTES = 8 << 20
"""Of an upload that are written between two looks at the disk: others fill it at the same time."""
WRITERS = 2
"""Threads that write and hash uploads."""
OVERHEAD = 64 << 10
"""Bytes of a body that may be other than the video: boundaries and heads of parts."""


class Received:
    """A video that was taken in."""

    def __init__(self, name: str, sha256: str, size: int):
        self.name, self.sha256, self.size = name, sha256, size


async def receive(
    content_type: str,
    chunks: AsyncIterator[bytes],
    path: Path,
    most: int,
    room: Callable[[int], bool] = lambda size: True,
) -> Received:
    """Write the form's one video to `path`, which is not there yet.

    Args:
        content_type: the request's header.
        chunks: of the body.
        most: bytes that the video may have.
        room: whether the disk has room for so many bytes more; asked before each `ROOM_BYTES` of them are written.

    Raises:
        Problem: the body is no form with one video in the field `file`; nothing is left at `path`.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Problem("NOT_MULTIPART", "Content-Type has to be multipart/form-data with a boundary.")
    if len(boundary) > 200:
        raise Problem("BAD_UPLOAD", "The boundary is longer than 200 bytes.")
    file = await anyio.to_thread.run_sync(lambda: path.open("xb"))
    try:
        form, few = _Form(boundary, file, most, room), writers()
        async for chunk in chunks:
            if chunk:
                await anyio.to_thread.run_sync(form.feed, chunk, limiter=few)
        received = form.end()
        await anyio.to_thread.run_sync(_to_disk, file, limiter=few)
    except BaseException:
        file.close()
        path.unlink(missing_ok=True)
        raise
    file.close()
    return received


def writers() -> anyio.CapacityLimiter:
    """The few threads that all uploads of an event loop share: more would hold memory of their own and gain nothing."""
    loop = asyncio.get_running_loop()
    if loop not in _limiters:
        _limiters[loop] = anyio.CapacityLimiter(WRITERS)
    return _limiters[loop]


_limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, anyio.CapacityLimiter] = WeakKeyDictionary()


def _to_disk(file: BinaryIO) -> None:
    import os

    file.flush()
    os.fsync(file.fileno())


class _Form:
    """What the parser calls as it reads."""

    def __init__(self, boundary: bytes, file: BinaryIO, most: int, room: Callable[[int], bool]):
        self.file, self.most, self.room = file, most, room
        self.granted = 0
        """Bytes that the disk was found to have room for."""
        self.hash = hashlib.sha256()
        self.size, self.parts, self.head_size = 0, 0, 0
        self.name: str | None = None
        self.head, self.field, self.value = b"", b"", b""
        self.headers: dict[bytes, bytes] = {}
        self.complete = False
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        try:
            self.parser.write(chunk)
        except FormParserError:
            raise Problem("BAD_UPLOAD", "The body is not well formed multipart/form-data.") from None

    def end(self) -> Received:
        if not self.complete:
            raise Problem("BAD_UPLOAD", "The form ends before its last boundary: the upload was cut off.")
        if self.name is None:
            raise Problem("BAD_UPLOAD", f"There is no file in the field {FIELD!r}.")
        if self.size == 0:
            raise Problem("EMPTY_FILE", "The uploaded file is empty (0 bytes).")
        if self.size < HEAD:
            self._check()
        return Received(self.name, self.hash.hexdigest(), self.size)

    def _part(self) -> None:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise Problem("BAD_UPLOAD", f"The form has more than {MOST_PARTS} parts.")
        self.headers, self.head_size = {}, 0

    def _bounded(self, size: int) -> None:
        self.head_size += size
        if self.head_size > MOST_HEADER_BYTES:
            raise Problem("BAD_UPLOAD", f"The head of a part is longer than {MOST_HEADER_BYTES} bytes.")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._bounded(end - start)
        self.field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._bounded(end - start)
        self.value += data[start:end]

    def _header_end(self) -> None:
        self.headers[self.field.lower()] = self.value
        self.field, self.value = b"", b""

    def _headers(self) -> None:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field != FIELD or b"filename" not in options:
            raise Problem("BAD_UPLOAD", f"Only one file in the field {FIELD!r} is expected; another field was sent.")
        if self.name is not None:
            raise Problem("BAD_UPLOAD", "The form holds more than one file; send one at a time.")
        self.name = options[b"filename"].decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self.size < HEAD <= self.size + len(piece):
            self.head += piece
            self.size += len(piece)
            self._check()
        else:
            if self.size < HEAD:
                self.head += piece
            self.size += len(piece)
        if self.size > self.most:
            raise Problem("UPLOAD_TOO_LARGE", f"The video has more than {self.most} bytes.")
        while self.size > self.granted:
            if not self.room(ROOM_BYTES):
                raise Problem("NO_SPACE", "The service's disk has no room for it.")
            self.granted += ROOM_BYTES
        self.hash.update(piece)
        self.file.write(piece)

    def _check(self) -> None:
        if kind_of(self.head) is None:
            raise Problem("NOT_A_VIDEO", "The content is no video of a known kind, whatever its name says.")

    def _end(self) -> None:
        self.complete = True
