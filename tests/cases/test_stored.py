"""Stored data: checkpoints, weights and bundles that are damaged, hostile or of something else are refused with a cure."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.cases.cases import Case, held_by
from visavox import weights
from visavox.bundle import ARRAYS, Bundle, BundleError, read_stamp
from visavox.bundle import schema as bundles
from visavox.errors import CODES, OF_MEDIA, OF_STATUS, OF_SYSTEM, code_of
from visavox.weights.loading import fit

REFUSED = "refused without running it; its mark never appears"


class Payload:
    """Unpickling it would make a folder."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def pickled(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Payload(mark)}))


def saved_by_torch(path: Path, mark: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(2)}, "more": Payload(mark)}, path)


def saved_by_old_torch(path: Path, mark: Path) -> None:
    torch.save({"w": Payload(mark)}, path, _use_new_zipfile_serialization=False)


def saved_by_joblib(path: Path, mark: Path) -> None:
    import joblib

    joblib.dump({"w": Payload(mark)}, path)


@held_by(
    Case("S1", "pickle named .ckpt", REFUSED, ("a.ckpt", pickled)),
    Case("S1", "pickle named .pt", REFUSED, ("a.pt", pickled)),
    Case("S1", "pickle named .pkl", REFUSED, ("a.pkl", pickled)),
    Case("S1", "pickle named .safetensors", REFUSED, ("a.safetensors", pickled)),
    Case("S1", "checkpoint of torch with a payload", REFUSED, ("a.pth", saved_by_torch)),
    Case("S1", "checkpoint of an old torch with a payload", REFUSED, ("b.pth", saved_by_old_torch)),
    Case("S1", "file of joblib", REFUSED, ("a.joblib", saved_by_joblib)),
)
def test_code_in_a_file_never_runs(case: Case, tmp_path: Path):
    name, write = case.given
    mark = tmp_path / "ran"
    write(tmp_path / name, mark)
    with pytest.raises(weights.WeightsError, match=name):
        weights.safe_load(tmp_path / name)
    assert not mark.exists()


@pytest.fixture(scope="module")
def sound(make_bundle, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.npz"
    make_bundle().save(path)
    return path


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def with_member(name: str, data: bytes | None, compression: int = zipfile.ZIP_STORED) -> Callable[[Path, Path], None]:
    """What copies a bundle with one member replaced, or left out."""

    def write(source: Path, target: Path) -> None:
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
            for info in old.infolist():
                kept = data if info.filename == f"{name}.npy" else old.read(info)
                if kept is not None:
                    new.writestr(info.filename, kept)

    return write


def headed(shape: str, descr: str = "'|u1'", rest: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + rest


def objects(source: Path, target: Path) -> None:
    hostile = np.empty((), object)
    hostile[()] = Payload(target.with_name("ran"))
    with_member("faces", npy(hostile, allow_pickle=True))(source, target)


def renamed_pickle(source: Path, target: Path) -> None:
    pickled(target, target.with_name("ran"))


def cut(share: float) -> Callable[[Path, Path], None]:
    return lambda source, target: target.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])


def twice(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(target, "a") as archive:
        archive.writestr("faces.npy", npy(np.zeros((8, 64, 64, 3), np.uint8)))


def lying_directory(source: Path, target: Path) -> None:
    """The zip's own directory says that the first member has 4 GiB."""
    data = bytearray(source.read_bytes())
    at = data.rfind(b"PK\x01\x02", 0, data.rfind(b"PK\x05\x06"))
    struct.pack_into("<II", data, at + 20, 0xFFFFFFF0, 0xFFFFFFF0)
    target.write_bytes(data)


@held_by(
    Case("S2", "objects in place of numbers", "BAD_BUNDLE; nothing runs", (objects, "never loaded")),
    Case("S2", "a pickle named npz", "BAD_BUNDLE; nothing runs", (renamed_pickle, "not a readable .npz")),
    Case("S2", "cut after a tenth", "BAD_BUNDLE", (cut(0.1), "not a readable .npz")),
    Case("S2", "cut at its directory", "BAD_BUNDLE", (cut(0.995), "not a readable .npz")),
    Case("S2", "empty", "BAD_BUNDLE", (cut(0), "not a readable .npz")),
    Case(
        "S3",
        "deflated from 16 MiB",
        "BAD_BUNDLE, from the directory alone",
        (with_member("audio", npy(np.zeros(1 << 23, np.int16)), zipfile.ZIP_DEFLATED), "compressed"),
    ),
    Case(
        "S3",
        "a header of 4 TiB",
        "BAD_BUNDLE, nothing allocated",
        (with_member("faces", headed("(4398046511104,)")), "none has"),
    ),
    Case(
        "S3",
        "a header larger than its data",
        "BAD_BUNDLE, nothing allocated",
        (with_member("audio", headed("(2000000000,)", "'<i2'")), "and holds 0"),
    ),
    Case("S3", "two members of one name", "BAD_BUNDLE", (twice, "two members of one name")),
    Case("S3", "a directory that lies about a size", "BAD_BUNDLE", (lying_directory, "")),
    Case("S4", "a member is missing", "BAD_BUNDLE, names it", (with_member("mdist", None), "lacks mdist")),
    Case(
        "S4",
        "a text where numbers belong",
        "BAD_BUNDLE, names it",
        (with_member("mdist", npy(np.asarray("x"))), "mdist"),
    ),
    Case(
        "S4",
        "numbers where a text belongs",
        "BAD_BUNDLE, names it",
        (with_member("status", npy(np.zeros(3))), "status is float64"),
    ),
    Case(
        "S4",
        "wrong dtype",
        "BAD_BUNDLE, says both",
        (with_member("audio", npy(np.zeros(16000, np.float32))), "audio is float32 .* expected int16"),
    ),
    Case(
        "S4",
        "wrong rank",
        "BAD_BUNDLE, says both",
        (with_member("boxes", npy(np.zeros(25, np.float32))), "boxes is float32"),
    ),
    Case(
        "S4",
        "not a number",
        "BAD_BUNDLE, names it",
        (with_member("boxes", npy(np.full((25, 4), np.nan, np.float32))), "boxes is not finite"),
    ),
)
def test_a_bundle_that_is_none(case: Case, sound: Path, tmp_path: Path):
    write, said = case.given
    path = tmp_path / "odd.npz"
    write(sound, path)
    with pytest.raises(BundleError, match=f"odd.npz: .*{said}.*crop the video again") as caught:
        Bundle.load(path)
    assert code_of(caught.value) == "BAD_BUNDLE"
    assert not (tmp_path / "ran").exists()


@held_by(Case("S4", "200 seeded changes of a bundle", "the same bundle, or BAD_BUNDLE with the name of the file", 200))
def test_changed_bytes(case: Case, sound: Path, tmp_path: Path):
    data, rng = sound.read_bytes(), np.random.default_rng(0)
    faces = Bundle.load(sound).faces
    path = tmp_path / "changed.npz"
    refused = 0
    for _ in range(case.given):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), int(rng.integers(1, 20))):
            changed[at] = int(rng.integers(256))
        path.write_bytes(changed[: int(rng.integers(len(data) // 2, len(data) + 1))] if rng.random() < 0.2 else changed)
        for read in (Bundle.load, read_stamp):
            try:
                whole = read(path)
            except BundleError as error:
                refused += 1
                assert "changed.npz: " in str(error)
            else:
                assert not isinstance(whole, Bundle) or np.array_equal(whole.faces, faces)
    assert refused > case.given / 2


def huge_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def cut_header(path: Path) -> None:
    save_file({"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}, path)
    path.write_bytes(path.read_bytes()[:40])


@held_by(
    Case("S5", "a header of an exabyte", "refused, nothing allocated", huge_header),
    Case("S5", "a header that is cut off", "refused", cut_header),
)
def test_a_damaged_safetensors(case: Case, tmp_path: Path):
    case.given(tmp_path / "a.safetensors")
    with pytest.raises(weights.WeightsError, match=r"a\.safetensors"):
        weights.safe_load(tmp_path / "a.safetensors")


@held_by(
    Case("S5", "a parameter is missing", "refused, named", ({"weight": (3, 2)}, r"1 missing \['bias'\]")),
    Case(
        "S5",
        "a parameter too many",
        "refused, named",
        ({"weight": (3, 2), "bias": (3,), "more": (1,)}, r"1 unknown \['more'\]"),
    ),
    Case(
        "S5",
        "another shape",
        "refused with both",
        ({"weight": (2, 3), "bias": (3,)}, r"weight \(2, 3\), expected \(3, 2\)"),
    ),
    Case("S5", "no parameters of this network at all", "refused: never random weights", ({"other": (1,)}, "2 missing")),
)
def test_weights_of_another_network(case: Case, tmp_path: Path):
    shapes, said = case.given
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "a.safetensors")
    network = torch.nn.Linear(2, 3)
    before = network.weight.clone()
    with pytest.raises(weights.WeightsError, match=said):
        fit(network, weights.safe_load(tmp_path / "a.safetensors"), what="a.safetensors")
    assert torch.equal(network.weight, before)


@held_by(
    Case("S4", "every code", "says what happened and what to do", sorted(CODES)),
)
def test_the_table_of_codes(case: Case):
    for code in case.given:
        happened, cure = CODES[code]
        assert code == code.upper() and happened.endswith(".") and len(cure) > 10
    assert {*OF_MEDIA.values(), *OF_STATUS.values(), *OF_SYSTEM.values()} <= set(CODES)
    words = (Path(bundles.__file__).parents[1] / "media/container.py").read_text()
    named = words[words.index("class MediaError") :].partition('"""')[2].partition('"""')[0]
    assert {word.strip(" .\n") for word in named.partition("one of:")[2].replace("\n", " ").split(",")} == set(OF_MEDIA)


def test_codes_of_exceptions():
    assert code_of(MemoryError()) == "OUT_OF_MEMORY" and code_of(torch.OutOfMemoryError()) == "OUT_OF_MEMORY"
    assert code_of(FileNotFoundError(2, "gone")) == "NOT_FOUND" and code_of(OSError(28, "full")) == "NO_SPACE"
    assert code_of(BundleError("x", "OTHER_SETTINGS")) == "OTHER_SETTINGS" and code_of(KeyError("x")) == "INTERNAL"
    assert len(ARRAYS) == 13 and json.loads(json.dumps(CODES["NO_FACE"]._asdict()))["happened"] == "No face was found."


def other_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    (folder / "mirror").mkdir()
    (folder / "mirror" / weights.find("syncnet_v2").file).write_bytes(b"not the weights" * 1000)
    return {"from_dir": folder / "mirror"}


def offline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    return {}


def no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    (folder / "file").write_text("")
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(folder / "file" / "weights"))
    return {"from_dir": folder}


@held_by(
    Case("S6", "other bytes in place of weights", "refused, nothing kept", (other_bytes, "syncnet_v2")),
    Case("S6", "no network", "says what to put where", (offline, "the network is switched off.*https://")),
    Case("S6", "a folder that cannot be made", "says which setting names another", (no_folder, "VISAVOX_WEIGHTS")),
)
def test_weights_that_do_not_come(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prepare, said = case.given
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "weights"))
    how = prepare(tmp_path, monkeypatch)
    with pytest.raises(weights.WeightsError, match=f"(?s){said}"):
        weights.fetch("syncnet_v2", **how)
    assert not (tmp_path / "weights" / weights.find("syncnet_v2").file).exists()
