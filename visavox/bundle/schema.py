"""The bundle: what preprocessing keeps of one video, and the only code that knows the key names of its `.npz`.

Legend of dimensions, used everywhere:

    K faces kept · S frame_size · T frames of the 25 fps face track · F mel bins · M mel steps · V = 2 * vshift + 1 shifts
    N audio samples · B clips of a batch
"""

import dataclasses
import io
import json
import math
import struct
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from visavox.files import replacing
from visavox.status import Status

SCHEMA_VERSION = 1
"""Raised when a member of the file changes its meaning."""
_PARSER = threading.Lock()
"""Held while numpy parses a header: threads that parse Python at once can end in a SystemError (CPython 3.11, see gh-106905)."""


class BundleError(ValueError):
    """A bundle is damaged, hostile, or made with other settings; the message holds the cure."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """One preprocessed video. `load(full=False)` leaves audio and track out (None), which the reference system never reads."""

    faces: np.ndarray
    """(K, S, S, 3) uint8 RGB, at the centres of K equal bins of the track."""
    mel_3cs: np.ndarray
    """(3, F, M) float16: log-mel in dB, delta, delta-delta."""
    mdist: np.ndarray
    """(V,) float32: mean audio-visual distance per shift, audio late to the right; NaN without audio or with sync=off."""
    latency: np.ndarray
    """() float32: argmin(mdist) - vshift in frames, + = audio late; NaN as mdist."""
    conf: np.ndarray
    """() float32: median - minimum of mdist; NaN as mdist."""
    boxes: np.ndarray
    """(T, 4) float32: smoothed face boxes, xyxy in source pixels."""
    landmarks: np.ndarray
    """(T, 5, 2) float32: eyes, nose, mouth corners in crop pixels."""
    det_score: np.ndarray
    """(T,) float32: detector score, NaN where the box is interpolated."""
    times: np.ndarray
    """(T,) float32: seconds of the video's own clock."""
    fps: np.ndarray
    """() float32: frames per second of the track."""
    audio: np.ndarray | None
    """(N,) int16 mono at resample_rate, over the span of the track."""
    track: np.ndarray | None
    """uint8 buffer of JPEG images, (T, S, S, 3) RGB once decoded; empty with store_track=false."""
    track_offsets: np.ndarray | None
    """(T + 1,) int64: image t is track[track_offsets[t]:track_offsets[t + 1]]."""
    status: Status
    """ok or no_audio; other outcomes leave no bundle."""
    sync: str
    """Method that measured mdist: syncnet, correlation or off."""
    landmark_source: str
    """`retinaface`, or `template` for a detector without landmarks."""
    notes: str
    """What happened on the way, one per line: clipped, truncated, ..."""
    settings: str
    """The settings it was made with, as JSON."""
    prep_hash: str
    """Hash of the settings and weights it was made with."""
    source_sha256: str
    """sha256 of the video file."""
    schema_version: int = SCHEMA_VERSION

    @cached_property
    def track_frames(self) -> int:
        return len(self.boxes)

    @cached_property
    def sample_rate(self) -> int:
        """Samples of `audio` per second, as the settings it was made with say."""
        try:
            return int(json.loads(self.settings)["resample_rate"])
        except (ValueError, KeyError, TypeError):
            raise BundleError("its settings do not say resample_rate; crop the video again") from None

    @cached_property
    def latency_vector(self) -> np.ndarray:
        """(V + 2,) float32: mdist, latency, conf."""
        return np.concatenate([self.mdist, [self.latency, self.conf]]).astype(np.float32)

    def frame(self, t: int) -> np.ndarray:
        """Image t of the track, (S, S, 3) uint8 RGB."""
        import cv2

        if self.track is None or not len(self.track):
            raise BundleError("this bundle holds no track; crop with store_track=true and load it with full=True")
        jpeg = self.track[self.track_offsets[t] : self.track_offsets[t + 1]]
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise BundleError(f"image {t} of the track is damaged; crop the video again")
        return image

    def save(self, path: str | Path) -> None:
        """Write the bundle; equal bundles give equal bytes, for the file holds no time stamp."""
        fault = _fault(self)
        if fault:
            raise BundleError(f"{path}: {fault}")
        with replacing(path) as beside, beside.open("wb") as file:
            _write_npz(file, self)

    @classmethod
    def load(cls, path: str | Path, *, full: bool = True, mapped: bool = False) -> "Bundle":
        """Read and check a bundle.

        Args:
            full: read audio and track too; the reference system does without.
            mapped: map `faces` into memory, so that only what is used of them is read; their checksum is not compared.

        Raises:
            BundleError: not an npz, members missing, of wrong type or shape, not finite, or pickled objects (never loaded).
        """
        with _opened(path) as archive:
            return cls(**_read_npz(archive, full, mapped))


class Stamp(NamedTuple):
    """What identifies a bundle, read without its arrays: about a millisecond, whatever the bundle's size."""

    status: str
    prep_hash: str
    settings: str
    source_sha256: str
    faces: tuple[int, ...]
    """Shape of the faces: (K, S, S, 3)."""
    shifts: int
    """V, length of mdist."""


def read_stamp(path: str | Path) -> Stamp:
    """The stamp of a bundle. Its directory and the header of every array are checked on the way, their contents are not.

    Raises:
        BundleError: as `Bundle.load`, for what a look at the headers can tell.
    """
    with _opened(path) as archive:
        _check_directory(archive)
        headers = {name: _read_header(archive, name) for name in ARRAYS}
        texts = {name: str(_read_array(archive, name)) for name in ("status", "prep_hash", "settings", "source_sha256")}
        faces, mdist = headers["faces"][0], headers["mdist"][0]
        if len(faces) != 4 or len(mdist) != 1:
            raise BundleError(f"faces is {faces} and mdist {mdist}, expected (K, S, S, 3) and (V,)")
        return Stamp(**texts, faces=faces, shifts=mdist[0])


TEXTS = tuple(field.name for field in dataclasses.fields(Bundle) if field.type in (str, Status))
HEAVY = ("audio", "track", "track_offsets")
ARRAYS = tuple(
    field.name for field in dataclasses.fields(Bundle) if field.name not in (*TEXTS, "schema_version")
)  # in the order of the file


def _write_npz(file: io.BufferedIOBase, bundle: Bundle) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in (*ARRAYS, *TEXTS, "schema_version"):
            value = np.asarray(getattr(bundle, name), order="C")  # equal bytes whatever the memory layout
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:  # dated 1980: no clock
                np.lib.format.write_array(member, value, allow_pickle=False)


@contextmanager
def _opened(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """The zip of a bundle; whatever is wrong with it becomes one error that names the file and the cure."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such bundle; make it with `python crop.py --input VIDEO --output DIR`"
        ) from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise BundleError(f"{path}: not a readable .npz ({error}); crop the video again") from None
    except BundleError as error:
        raise BundleError(f"{path}: {error}; crop the video again") from None


def _read_npz(archive: zipfile.ZipFile, full: bool, mapped: bool) -> dict[str, object]:
    _check_directory(archive)
    values: dict[str, object] = {
        name: None if name in HEAVY and not full else _read_array(archive, name) for name in ARRAYS if name != "faces"
    }
    values["faces"] = _map_array(archive, "faces") if mapped else _read_array(archive, "faces")
    values |= {name: str(_read_array(archive, name)) for name in (*TEXTS, "schema_version")}
    if values["schema_version"] != str(SCHEMA_VERSION):
        raise BundleError(f"has schema version {values['schema_version']}, this code reads {SCHEMA_VERSION}")
    values["schema_version"] = SCHEMA_VERSION
    fault = _fault(Bundle(**values))
    if fault:
        raise BundleError(fault)
    return values


def _check_directory(archive: zipfile.ZipFile) -> None:
    """Every member is there, and plain: bundles are never compressed, so nothing unpacks to more than the file holds."""
    names = {info.filename.removesuffix(".npy") for info in archive.infolist()}
    missing = [name for name in (*ARRAYS, *TEXTS, "schema_version") if name not in names]
    if missing:
        raise BundleError(f"lacks {', '.join(missing)}")
    packed = [info.filename for info in archive.infolist() if not _is_plain(info)]
    if packed:
        raise BundleError(f"{', '.join(packed)}: compressed or encrypted, which no bundle is")


def _is_plain(info: zipfile.ZipInfo) -> bool:
    encrypted = info.flag_bits & 1
    return info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size and not encrypted


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    _read_header(archive, name)
    with archive.open(f"{name}.npy") as member:
        try:
            with _PARSER:
                return np.lib.format.read_array(member, allow_pickle=False)
        except (ValueError, MemoryError) as error:  # a short member, or one too large for this machine
            raise BundleError(f"{name} cannot be read ({error})") from None


def _map_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """A member mapped into memory, read-only: what is not used is never read, and no checksum is compared."""
    shape, dtype = _read_header(archive, name)
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    info = archive.getinfo(f"{name}.npy")
    with open(archive.filename, "rb") as file:  # the member's own header may be longer than the directory's
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    end = info.header_offset + 30 + name_length + extra_length + info.file_size
    try:
        return np.asarray(np.memmap(archive.filename, dtype, "r", end - math.prod(shape) * dtype.itemsize, shape))
    except (ValueError, OSError) as error:
        raise BundleError(f"{name} cannot be read ({error})") from None


def _read_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a member, if they are those of plain numbers or text that fill it exactly."""
    with archive.open(f"{name}.npy") as member:
        try:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            with _PARSER:
                shape, _, dtype = read(member)
        except (ValueError, UnicodeDecodeError) as error:
            raise BundleError(f"{name} is no array ({error})") from None
        if dtype.hasobject:
            raise BundleError(f"{name} holds Python objects, which are never loaded")
        declared, held = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{name}.npy").file_size - member.tell()
    if declared != held:
        raise BundleError(f"{name} says it is {dtype} {shape}, {declared} bytes, and holds {held}")
    return shape, dtype


def _fault(bundle: Bundle) -> str | None:
    """The first way in which a bundle breaks the schema, in words; None when it keeps it."""
    T, V = len(np.atleast_1d(bundle.boxes)), len(np.atleast_1d(bundle.mdist))
    size = bundle.faces.shape[1] if bundle.faces.ndim == 4 else 0
    expected = {
        "faces": (np.uint8, (None, size, size, 3)),
        "mel_3cs": (np.float16, (3, None, None)),
        "mdist": (np.float32, (V,)),
        "latency": (np.float32, ()),
        "conf": (np.float32, ()),
        "boxes": (np.float32, (T, 4)),
        "landmarks": (np.float32, (T, 5, 2)),
        "det_score": (np.float32, (T,)),
        "times": (np.float32, (T,)),
        "fps": (np.float32, ()),
        "audio": (np.int16, (None,)),
        "track": (np.uint8, (None,)),
        "track_offsets": (np.int64, (T + 1,)),
    }
    for name, (dtype, shape) in expected.items():
        value = getattr(bundle, name)
        if value is None and name in HEAVY:
            continue
        fits = value.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape))
        if value.dtype != dtype or not fits:
            want = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
            return f"{name} is {value.dtype} {value.shape}, expected {np.dtype(dtype)} {want}"
    if not T or not len(bundle.faces) or not size:
        return "holds no face"
    if V % 2 == 0:
        return f"mdist has {V} shifts, expected an odd number"
    for name in ("mel_3cs", "boxes", "landmarks", "times", "fps"):
        if not np.isfinite(getattr(bundle, name)).all():
            return f"{name} is not finite"
    silent = bundle.status == "no_audio" or bundle.sync == "off"
    known = np.isnan(bundle.latency_vector) if silent else np.isfinite(bundle.latency_vector)
    if not known.all():
        return "mdist, latency or conf should be unknown (NaN)" if silent else "mdist, latency or conf is not finite"
    if bundle.track is not None and len(bundle.track):
        offsets = bundle.track_offsets
        if offsets[0] != 0 or offsets[-1] != len(bundle.track) or (np.diff(offsets) <= 0).any():
            return "track_offsets does not fit the track"
    if bundle.status not in get_args(Status):
        return f"status is {bundle.status!r}, expected one of {', '.join(get_args(Status))}"
    return None
