"""Object storage in place of folders: `s3://` and `gs://` addresses of inputs and outputs (extra `remote`).

    inputs = remote.find_inputs(remote.place("s3://bucket/videos"))     # as files.find_inputs
    with store.fetched(path) as here:                                   # a file of this machine, gone afterwards
    with store.publishing(folder, ["a.npz"]) as here:                   # a folder of this machine: what it gains is put there
    with store.standing_in(folder, ["manifest*.jsonl"]) as here:        # the same while a run goes on, with what is there already

An address is held as the `Path` that it makes (`s3:/bucket/a.mp4`), so that names and folders are handled as those of any
file; what lies on this machine is handed through as it is. A file is put as a whole: S3 and GCS show an object once it is
complete. Who may read and write is for the library's own environment to say (AWS_PROFILE, AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...).
"""

from __future__ import annotations

from visavox.remote.scratch import LOCAL, Store, add_arguments, asked
from visavox.remote.storage import (
    MissingError,
    RemoteError,
    absolute,
    files_below,
    find_inputs,
    fingerprint,
    here_alone,
    is_file,
    is_remote,
    place,
    remove,
    sha256_of,
    url_of,
)

__all__ = [
    "LOCAL",
    "MissingError",
    "RemoteError",
    "Store",
    "absolute",
    "add_arguments",
    "asked",
    "files_below",
    "find_inputs",
    "fingerprint",
    "here_alone",
    "is_file",
    "is_remote",
    "place",
    "remove",
    "sha256_of",
    "url_of",
]
