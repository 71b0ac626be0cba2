"""THE `.npz`: its schema, its reader and writer; trimming and previews beside it."""

from visavox.bundle.schema import ARRAYS, HEAVY, SCHEMA_VERSION, TEXTS, Bundle, BundleError, Stamp, Status, read_stamp

__all__ = ["ARRAYS", "Bundle", "BundleError", "HEAVY", "SCHEMA_VERSION", "Stamp", "Status", "TEXTS", "read_stamp"]
