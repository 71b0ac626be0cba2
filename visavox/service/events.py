"""How those who wait for an analysis hear of it: one look into the store for all of them, then server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio

from visavox.service.answers import Status
from visavox.service.store import JobStore, Progress, StoreError

LOOK_SECONDS = 0.1
"""Between two looks into the store while somebody waits."""
BEAT_SECONDS = 15.0
"""Between two signs of life on an event stream."""


class Changes:
    """Wakes everybody who waits when the store has changed, by whichever process."""

    def __init__(self, store: JobStore):
        self.store = store
        self.waiting = 0
        self.changed = asyncio.Event()
        self.wanted = asyncio.Event()

    async def watch(self) -> None:
        """Look into the store while anybody waits; runs until it is cancelled."""
        last: int | None = None
        while True:
            await self.wanted.wait()
            with suppress(StoreError):
                now = await anyio.to_thread.run_sync(self.store.changes)
                if now != last:
                    last = now
                    self.changed.set()
                    self.changed = asyncio.Event()
            await asyncio.sleep(LOOK_SECONDS)

    async def wait(self, seconds: float) -> None:
        """Return when something has changed, or after so many seconds."""
        event = self.changed
        self.waiting += 1
        self.wanted.set()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
        finally:
            self.waiting -= 1
            if not self.waiting:
                self.wanted.clear()


async def until_ended(store: JobStore, changes: Changes, id: str, seconds: float) -> Progress | None:
    """Return the progress of an analysis once it has ended, or as it is after so many seconds; None where it is not known."""
    until = time.monotonic() + seconds
    while True:
        event_before = changes.changed
        progress = await anyio.to_thread.run_sync(store.progress, id)
        left = until - time.monotonic()
        if progress is None or progress.ended or left <= 0:
            return progress
        if event_before is changes.changed:
            await changes.wait(min(left, 1.0))


async def stream(store: JobStore, changes: Changes, id: str, after: int) -> AsyncIterator[str]:
    """Yield server-sent events of an analysis that come after number `after`, until it has ended or is gone."""
    beat = time.monotonic()
    while True:
        event_before = changes.changed
        try:
            last = await anyio.to_thread.run_sync(store.progress, id)  # before its events: these then hold its end
            found = await anyio.to_thread.run_sync(store.events, id, after)
            over = not found and (last is None or last.ended)
        except StoreError:
            found, over = [], False  # the queue is away for a moment: the client keeps its place
        for after, progress in found:
            data = json.dumps(Status.of(id, progress).model_dump())
            yield f"event: status\nid: {after}\ndata: {data}\n\n"
            beat = time.monotonic()
            if progress.ended:
                return
        if over:
            return
        if time.monotonic() - beat >= BEAT_SECONDS:
            yield ": still here\n\n"
            beat = time.monotonic()
        if event_before is changes.changed:
            await changes.wait(1.0)
