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
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from visavox.config import SYNC_FPS
from visavox.features import audio
from visavox.features.audio import mel_floor
from visavox.files import Member, MemberError, replacing
from visavox.status import SCORED, Status

if TYPE_CHECKING:
    from visavox.config import Config

SCHEMA_VERSION = 1
"""Raised when a member of the file changes its meaning."""
LEAST_SIDE = 16
"""Pixels of a face at least, as `frame_size` has it."""
HIGHEST_FPS = 1000.0
LONGEST_AXIS = 1 << 40
"""No array of a bundle has an axis this long; a header that says so lies."""
_PARSER = threading.Lock()
"""Held while numpy parses a header: threads that parse Python at once can end in a SystemError (CPython 3.11, see gh-106905)."""


class BundleError(ValueError):
    """A bundle is damaged, hostile, or made with other settings; the message holds the cure."""

    def __init__(self, message: str, code: str = "BAD_BUNDLE"):
        super().__init__(message)
        self.code = code


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
        """T, frames of the track."""
        return len(self.boxes)

    @cached_property
    def sample_rate(self) -> int:
        """Samples per second of `audio`, as the settings say.

        Raises:
            BundleError: they do not say it.
        """
        try:
            settings = json.loads(self.settings)
        except (ValueError, RecursionError):
            settings = None
        rate = settings.get("resample_rate") if isinstance(settings, dict) else None
        if not isinstance(rate, int) or isinstance(rate, bool) or not 0 < rate < 1 << 20:
            raise BundleError("settings name no resample_rate in Hz")
        return rate

    @property
    def has_sound(self) -> bool:
        """Whether the video has sound; the bundle itself leaves it out when it is loaded with full=False."""
        return self.status != "no_audio"

    @property
    def sound(self) -> np.ndarray:
        """(N,) int16: `audio`, empty where the video has none.

        Raises:
            BundleError: the bundle was loaded without it.
        """
        if self.audio is None:
            raise BundleError("this bundle was loaded without its audio; load it with full=True")
        return self.audio

    @property
    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """`track` and `track_offsets`.

        Raises:
            BundleError: the images were not stored, or not loaded.
        """
        if not self.has_track or self.track is None or self.track_offsets is None:
            raise BundleError("this bundle holds no track; crop with store_track=true and load it with full=True")
        return self.track, self.track_offsets

    @property
    def has_track(self) -> bool:
        """Whether the images of the track are here: stored, and loaded."""
        return self.track is not None and len(self.track) > 0

    @cached_property
    def kept_frames(self) -> np.ndarray:
        """(K,) int64: the frames of the track that `faces` shows."""
        return kept_frames(self.track_frames, len(self.faces))

    @cached_property
    def latency_vector(self) -> np.ndarray:
        """(V + 2,) float32: mdist, latency, conf."""
        return np.concatenate([self.mdist, [self.latency, self.conf]]).astype(np.float32)

    def frame(self, t: int) -> np.ndarray:
        """Image t of the track, (S, S, 3) uint8 RGB."""
        import cv2

        track, offsets = self.images
        jpeg = track[offsets[t] : offsets[t + 1]]
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise BundleError(f"image {t} of the track is damaged; crop the video again")
        return image

    def slice(self, first: int, last: int) -> Self:
        """Return frames `first` to `last - 1` with their sound, as a clip of its own that keeps the video's clock.

        The K faces are chosen again among those inside. Distances, latency and confidence stay those of the whole clip: they
        were measured on pairs of sound and picture.

        Raises:
            BundleError: no frame is left, or the bundle was loaded without its audio.
        """

        K, T, F = len(self.faces), self.track_frames, self.mel_3cs.shape[1]
        if not 0 <= first < last <= T:
            raise BundleError(f"frames {first} to {last - 1} are no part of a track of {T}")
        if self.has_sound and self.audio is None:
            raise BundleError("a part of a clip needs its audio; load the bundle with full=True")
        if self.has_sound:
            samples = self.sample_rate / float(self.fps)
            sound = self.sound[round(first * samples) : round(last * samples)]
            changes: dict[str, Any] = {"audio": sound, "mel_3cs": audio.mel_3cs(sound, self.sample_rate, F)}
        else:
            changes = {"mel_3cs": audio.mel_floor(F, (last - first) / float(self.fps), self.sample_rate)}
        low, high = first * K / T, last * K / T
        kept = np.clip((low + (np.arange(K) + 0.5) * (high - low) / K).astype(int), 0, K - 1)
        changes |= {
            "faces": self.faces[kept],
            **{name: getattr(self, name)[first:last] for name in ("boxes", "landmarks", "det_score", "times")},
        }
        offsets = self.track_offsets
        if self.has_track and self.track is not None and offsets is not None:
            changes["track"] = self.track[offsets[first] : offsets[last]]
        if offsets is not None:
            changes["track_offsets"] = offsets[first : last + 1] - offsets[first]
        return dataclasses.replace(self, **changes)

    @classmethod
    def blank(cls, config: "Config") -> Self:
        """Return a second of grey silence, made with these settings: to time or to try a network with."""

        T, S, V = round(SYNC_FPS), config.frame_size, 2 * config.vshift + 1
        return cls(
            faces=np.full((config.bundle_faces, S, S, 3), 127, np.uint8),
            mel_3cs=mel_floor(config.freq_num, 1.0, config.resample_rate),
            mdist=np.full(V, np.nan, np.float32),
            latency=np.asarray(np.float32(np.nan)),
            conf=np.asarray(np.float32(np.nan)),
            boxes=np.tile(np.array([0, 0, S, S], np.float32), (T, 1)),
            landmarks=np.zeros((T, 5, 2), np.float32),
            det_score=np.full(T, np.nan, np.float32),
            times=(np.arange(T) / SYNC_FPS).astype(np.float32),
            fps=np.asarray(np.float32(SYNC_FPS)),
            audio=np.zeros(config.resample_rate, np.int16),
            track=np.zeros(0, np.uint8),
            track_offsets=np.zeros(T + 1, np.int64),
            status="no_audio",
            sync=config.sync,
            landmark_source="template",
            notes="",
            settings=json.dumps(config.prep(), sort_keys=True),
            prep_hash="",
            source_sha256="",
        )

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


def kept_frames(T: int, K: int) -> np.ndarray:
    """Return which of T frames a bundle keeps as its K faces, the centres of K equal bins: (K,) int64."""
    return ((np.arange(K) + 0.5) * T / K).astype(int)


class Stamp(NamedTuple):
    """What identifies a bundle, read without its arrays: about a millisecond, whatever the bundle's size."""

    status: str
    prep_hash: str
    settings: str
    source_sha256: str
    notes: str
    frames: int
    """T, of the face track."""
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
        check_directory(archive, MEMBERS)
        headers = {name: _read_header(archive, name) for name in ARRAYS}
        texts = {
            name: _read_text(archive, name) for name in ("status", "prep_hash", "settings", "source_sha256", "notes")
        }
        faces, mdist, times = (headers[name][0] for name in ("faces", "mdist", "times"))
        if (len(faces), len(mdist), len(times)) != (4, 1, 1):
            raise BundleError(
                f"faces is {faces}, mdist {mdist} and times {times}, expected (K, S, S, 3), (V,) and (T,)"
            )
        if fault := _face_fault(faces):
            raise BundleError(fault)
        return Stamp(**texts, frames=times[0], faces=faces, shifts=mdist[0])


TEXTS = tuple(field.name for field in dataclasses.fields(Bundle) if field.type in (str, Status))
HEAVY = ("audio", "track", "track_offsets")
ARRAYS = tuple(
    field.name for field in dataclasses.fields(Bundle) if field.name not in (*TEXTS, "schema_version")
)  # in the order of the file
MEMBERS = (*ARRAYS, *TEXTS, "schema_version")


def _write_npz(file: io.BufferedIOBase, bundle: Bundle) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in MEMBERS:
            value = np.asarray(getattr(bundle, name), order="C")  # equal bytes whatever the memory layout
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:  # dated 1980: no clock
                np.lib.format.write_array(member, value, allow_pickle=False)


@contextmanager
def _opened(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """The zip of a bundle; whatever is wrong with it becomes one error that names the file and the cure."""
    try:
        with _file(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no such bundle; make it with `python crop.py --input VIDEO --output DIR`"
        ) from None
    except MemberError as error:
        raise BundleError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise BundleError(f"{path}: not a readable .npz ({error}); crop the video again") from None
    except BundleError as error:
        raise BundleError(f"{path}: {error}; crop the video again") from None


def _file(path: str | Path) -> AbstractContextManager[Any]:
    """What `zipfile` opens: the path, or the part of a shard that it names."""
    member = Member.of(path)
    return io.BufferedReader(member) if member else nullcontext(path)


def _read_npz(archive: zipfile.ZipFile, full: bool, mapped: bool) -> dict[str, Any]:
    check_directory(archive, MEMBERS)
    values: dict[str, Any] = {
        name: None if name in HEAVY and not full else read_array(archive, name) for name in ARRAYS if name != "faces"
    }
    values["faces"] = _map_array(archive, "faces") if mapped else read_array(archive, "faces")
    values |= {name: _read_text(archive, name) for name in TEXTS}
    values["schema_version"] = str(read_array(archive, "schema_version"))
    if values["schema_version"] != str(SCHEMA_VERSION):
        raise BundleError(f"has schema version {values['schema_version']}, this code reads {SCHEMA_VERSION}")
    values["schema_version"] = SCHEMA_VERSION
    fault = _fault(Bundle(**values))
    if fault:
        raise BundleError(fault)
    return values


def check_directory(archive: zipfile.ZipFile, members: Sequence[str]) -> None:
    """Require that every member is there, once, and plain: nothing then unpacks to more than the file holds.

    Raises:
        BundleError: a member is missing, there twice, compressed or encrypted.
    """
    names = {info.filename.removesuffix(".npy") for info in archive.infolist()}
    if len(names) < len(archive.infolist()):
        raise BundleError("holds two members of one name")
    missing = [name for name in members if name not in names]
    if missing:
        raise BundleError(f"lacks {', '.join(missing)}")
    packed = [info.filename for info in archive.infolist() if not _is_plain(info)]
    if packed:
        raise BundleError(f"{', '.join(packed)}: compressed or encrypted, which it never is when Visavox wrote it")


def _is_plain(info: zipfile.ZipInfo) -> bool:
    encrypted = info.flag_bits & 1
    return info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size and not encrypted


def read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read a member of plain numbers or text.

    Raises:
        BundleError: its header lies or cannot be read, it is short, or it holds Python objects, which are never loaded.
    """
    _read_header(archive, name)
    with archive.open(f"{name}.npy") as member:
        try:
            with _PARSER:
                return np.lib.format.read_array(member, allow_pickle=False)
        except (ValueError, MemoryError) as error:  # a short member, or one too large for this machine
            raise BundleError(f"{name} cannot be read ({error})") from None


def _read_text(archive: zipfile.ZipFile, name: str) -> str:
    value = read_array(archive, name)
    if value.dtype.kind != "U" or value.ndim:
        raise BundleError(f"{name} is {value.dtype} {value.shape}, expected one text")
    return str(value)


def _map_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """A member mapped into memory, read-only: what is not used is never read, and no checksum is compared."""
    shape, dtype = _read_header(archive, name)
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    info = archive.getinfo(f"{name}.npy")
    assert archive.filename is not None  # opened by path, in `_opened`
    base = (
        archive.fp.raw.base if isinstance(archive.fp, io.BufferedReader) and isinstance(archive.fp.raw, Member) else 0
    )
    with open(archive.filename, "rb") as file:  # the member's own header may be longer than the directory's
        file.seek(base + info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    end = base + info.header_offset + 30 + name_length + extra_length + info.file_size
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
        except OSError:
            raise
        except (
            Exception
        ):  # numpy evaluates the header as Python, which has many ways to refuse one and no words for people
            raise BundleError(f"{name} is no array: its header cannot be read") from None
        if not all(type(length) is int and 0 <= length < LONGEST_AXIS for length in shape) or len(shape) > 4:
            raise BundleError(f"{name} is no array: its header states a shape that none has")
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
    if not T:
        return "holds no face"
    if fault := _face_fault(bundle.faces.shape):
        return fault
    if V % 2 == 0:
        return f"mdist has {V} shifts, expected an odd number"
    if not bundle.mel_3cs.size:
        return f"mel_3cs is {bundle.mel_3cs.shape}: it has no step of sound"
    for name in ("mel_3cs", "boxes", "landmarks", "times", "fps"):
        if not np.isfinite(getattr(bundle, name)).all():
            return f"{name} is not finite"
    if not 0 < bundle.fps <= HIGHEST_FPS:
        return f"fps is {bundle.fps:g}, expected a number above 0 and up to {HIGHEST_FPS:g}"
    if bundle.status not in SCORED:
        return f"status is {bundle.status!r}, expected {' or '.join(SCORED)}: other outcomes leave no bundle"
    silent = not bundle.has_sound or bundle.sync == "off"
    known = np.isnan(bundle.latency_vector) if silent else np.isfinite(bundle.latency_vector)
    if not known.all():
        return "mdist, latency or conf should be unknown (NaN)" if silent else "mdist, latency or conf is not finite"
    return _track_fault(bundle) or _sound_fault(bundle)


def _face_fault(shape: tuple[int, ...]) -> str | None:
    """Why faces of this shape (K, S, S, 3) are none that a network can see; None where they are."""
    K, side = shape[0], min(shape[1:3])
    if not K or not side:
        return "holds no face"
    return f"faces is {shape}: {side} pixels a side, {LEAST_SIDE} are needed" if side < LEAST_SIDE else None


def _track_fault(bundle: Bundle) -> str | None:
    track, offsets = bundle.track, bundle.track_offsets
    if track is None or not len(track):
        return None
    if offsets is None or offsets[0] != 0 or offsets[-1] != len(track) or (np.diff(offsets) <= 0).any():
        return "track_offsets does not fit the track"
    return None


def _sound_fault(bundle: Bundle) -> str | None:
    """Sound has to last as long as its track, to a frame; what is cut with the picture would run out of it."""
    if not bundle.has_sound or bundle.audio is None:
        return None
    try:
        frames = len(bundle.audio) / bundle.sample_rate * float(bundle.fps)
    except BundleError as error:
        return str(error)
    T = bundle.track_frames
    return f"audio lasts {frames:.1f} frames of the track's {T}" if abs(frames - T) > 1 else None
