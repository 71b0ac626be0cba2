"""THE `.npz`: its schema, its reader and writer; trimming and previews beside it."""

from __future__ import annotations

from visavox.bundle.schema import (
    ARRAYS,
    HEAVY,
    SCHEMA_VERSION,
    TEXTS,
    Bundle,
    BundleError,
    Stamp,
    Status,
    kept_frames,
    read_stamp,
)

__all__ = [
    "ARRAYS",
    "HEAVY",
    "SCHEMA_VERSION",
    "TEXTS",
    "Bundle",
    "BundleError",
    "Stamp",
    "Status",
    "kept_frames",
    "read_stamp",
]
