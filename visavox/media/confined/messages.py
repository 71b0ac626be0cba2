"""What parent and child of the confined decoder say to each other: JSON of bounded length, bytes of a known count, open files."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import time
from typing import Any

LONGEST = 1 << 20
"""Bytes of one message; longer ones are refused."""
CREDIT = b"c"
"""What the parent says for each frame that it has taken out of its slot."""


class Channel:
    """One end of the connection. Every wait draws on `patience`, where there is one."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.patience: float | None = None
        """Seconds that may still be waited for the other end; None: any number."""

    def say(self, message: dict[str, Any]) -> None:
        """Send a message."""
        body = json.dumps(message).encode()
        self.connection.sendall(struct.pack("<I", len(body)) + body)

    def say_with_descriptor(self, message: dict[str, Any], descriptor: int) -> None:
        """Send a message and an open file, which stays open here."""
        body = json.dumps(message).encode()
        socket.send_fds(self.connection, [struct.pack("<I", len(body))], [descriptor])
        self.connection.sendall(body)

    def send(self, data: memoryview | bytes) -> None:
        """Send bytes of whose count the other end knows."""
        self.connection.sendall(data)

    def hear(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            EOFError: the other end is gone.
            TimeoutError: `patience` is over.
            ValueError: it is too long, or no JSON object.
        """
        return self._body(self.read(4))

    def hear_with_descriptor(self) -> tuple[dict[str, Any], list[int]]:
        """Return the next message, which comes with one open file. Raises as `hear` does."""
        head, descriptors, _, _ = socket.recv_fds(self.connection, 4, 1)
        if not head:
            raise EOFError("the other end is gone")
        return self._body(head + self.read(4 - len(head))), descriptors

    def expect(self, word: bytes) -> None:
        """Wait for a single byte. Raises EOFError where anything else comes."""
        if self.read(1) != word:
            raise EOFError("the other end says something unknown")

    def read(self, count: int) -> bytes:
        """Return that many bytes. Raises as `hear` does."""
        data = bytearray(count)
        self.read_into(memoryview(data))
        return bytes(data)

    def read_into(self, data: memoryview) -> None:
        """Fill `data`. Raises as `hear` does."""
        while data.nbytes:
            began = time.monotonic()
            if self.patience is not None:
                self.connection.settimeout(max(self.patience, 0.001))
            got = self.connection.recv_into(data)
            if self.patience is not None:
                self.patience -= time.monotonic() - began
                if self.patience < 0:
                    raise TimeoutError
            if not got:
                raise EOFError("the other end is gone")
            data = data[got:]

    def close(self) -> None:
        self.connection.close()

    def _body(self, head: bytes) -> dict[str, Any]:
        (length,) = struct.unpack("<I", head)
        if length > LONGEST:
            raise ValueError(f"a message of {length} bytes")
        message = json.loads(self.read(length))
        if not isinstance(message, dict):
            raise ValueError("a message that is no object")
        return message


def shared_memory(size: int) -> int:
    """Return the descriptor of `size` bytes that two processes can map and neither can shrink (who reads what is no longer
    there is killed)."""
    descriptor = os.memfd_create("visavox frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
