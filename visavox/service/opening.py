"""Open the queue, and make it again from the folder where it was lost or damaged."""

from __future__ import annotations

import time
from contextlib import suppress

import structlog

from visavox.service.folder import Folder, empty_incoming, recover, sweep
from visavox.service.settings import Settings
from visavox.service.sqlite_store import SQLiteStore, is_whole
from visavox.service.store import JobStore

log = structlog.get_logger(__name__)


def open_store(settings: Settings, folder: Folder) -> JobStore:
    """Return the queue that the settings name.

    Raises:
        StoreError: it cannot be reached.
    """
    if settings.store:
        from visavox.service.rq_store import RQStore

        return RQStore(settings.store, settings.tries)
    return SQLiteStore(folder.queue, settings.tries)


def open_whole(settings: Settings, folder: Folder) -> JobStore:
    """Return the queue with everything in it that lies in the folder; what is damaged is set aside. For the API alone.

    Raises:
        StoreError: it cannot be reached.
    """
    empty_incoming(folder)
    if not settings.store and not is_whole(folder.queue):
        aside = folder.queue.with_name(f"queue.damaged.{round(time.time())}.sqlite")
        folder.queue.rename(aside)
        for ending in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                folder.queue.with_name(folder.queue.name + ending).unlink()
        log.error("the queue was damaged: it is set aside and made again from the folder", aside=aside.name)
    store = open_store(settings, folder)
    count = recover(folder, store, settings.queue_length)
    if count:
        log.warning("jobs were missing in the queue and are in it again", jobs=count)
    sweep(folder, store, settings.retention_minutes, settings.result_hours)
    return store
