"""Bundles on their way from the actors of a cluster to the process that scores: through a folder that all of them share.

with spooled(folder) as spooling:
    work = spooling.into(work)               # in an actor: the bundle is written to the folder, its row travels without
    prepared = spooling.out_of(prepared)     # here: the bundle is read and its file removed
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visavox import remote
from visavox.errors import code_of
from visavox.files import replacing
from visavox.remote import Store

if TYPE_CHECKING:
    from visavox.commands.streaming import Prepared

Work = Callable[[Any, tuple[str, Path]], "Prepared"]


@contextmanager
def spooled(folder: Path | None, store: Store = remote.LOCAL) -> Iterator[Spooling | None]:
    """Make the folder, empty, and remove it at the end; None gives None.

    Args:
        store: how its files are held here where it is one of a storage.
    """
    if folder is None:
        yield None
        return
    folder = remote.absolute(folder)
    _remove(folder)  # what a run that was killed left
    if not remote.is_remote(folder):
        folder.mkdir(parents=True)
    try:
        yield Spooling(folder, store)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    if remote.is_remote(folder):
        remote.remove(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Spooling:
    """A folder of bundles that nobody has read yet."""

    folder: Path
    store: Store = remote.LOCAL

    def into(self, work: Work) -> Into:
        """Return the work of an actor, whose result carries neither bundle nor sound."""
        return Into(self, work)

    def out_of(self, prepared: Prepared) -> Prepared:
        """Return a result with its bundle or sound, whose files are removed."""
        from visavox.bundle import Bundle, BundleError

        for path in (self.of(prepared.name, ".npz"), self.of(prepared.name, ".npy")):
            if not remote.is_file(path):
                continue
            try:
                if prepared.status == "failed":  # the actor was lost after it had written this
                    return prepared
                with self.store.fetched(path) as here:
                    if path.suffix == ".npz":
                        return prepared._replace(bundle=Bundle.load(here))
                    return prepared._replace(sound=np.load(here, allow_pickle=False))
            except (BundleError, OSError, ValueError) as error:
                return prepared._replace(status="failed", reason=str(error), code=code_of(error))
            finally:
                remote.remove(path) if remote.is_remote(path) else path.unlink(missing_ok=True)
        if prepared.reason:
            return prepared
        return prepared._replace(
            status="failed",
            reason=f"{remote.url_of(self.of(prepared.name, '.npz'))} is not there, and an actor wrote it; give an output on "
            "storage that all machines share",
            code="NOT_FOUND",
        )

    def of(self, name: str, ending: str) -> Path:
        """Where the bundle or the sound of an input goes."""
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}{ending}"


@dataclass(frozen=True)
class Into:
    """The work of an actor; writes what it makes to the folder."""

    spooling: Spooling
    work: Work

    def __call__(self, state: Any, task: tuple[str, Path]) -> Prepared:
        prepared = self.work(state, task)
        try:
            with self.spooling.store.publishing(self.spooling.folder, []) as here:
                to = Spooling(here)
                if prepared.bundle is not None:
                    prepared.bundle.save(to.of(prepared.name, ".npz"))
                elif prepared.sound is not None:
                    with replacing(to.of(prepared.name, ".npy")) as beside, beside.open("wb") as file:
                        np.save(file, prepared.sound)
        except Exception as error:  # the row is the answer
            return prepared._replace(bundle=None, sound=None, status="failed", reason=str(error), code=code_of(error))
        return prepared._replace(bundle=None, sound=None)
