"""The bundle: equal after saving and loading, equal bytes, and never trusted."""

import dataclasses
import os
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from visavox.bundle import ARRAYS, HEAVY, TEXTS, Bundle, BundleError, read_stamp
from visavox.bundle import schema as bundles
from visavox.config import Config, Prep
from visavox.preprocessing import provenance
from visavox.preprocessing.provenance import differing_settings, prep_hash


@pytest.fixture
def saved(make_bundle, tmp_path) -> Path:
    make_bundle().save(tmp_path / "video7.npz")
    return tmp_path / "video7.npz"


def rewrite(source: Path, target: Path, compression: int = zipfile.ZIP_STORED, **members: bytes | None) -> Path:
    """A copy of a bundle with some members' bytes replaced, or left out (None)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for info in old.infolist():
            data = members.get(info.filename.removesuffix(".npy"), old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
    return target


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def test_a_loaded_bundle_equals_the_saved_one(make_bundle, saved):
    before, after = make_bundle(), Bundle.load(saved)
    for field in dataclasses.fields(Bundle):
        was, now = getattr(before, field.name), getattr(after, field.name)
        np.testing.assert_array_equal(was, now, strict=isinstance(was, np.ndarray), err_msg=field.name)


def test_equal_bundles_give_equal_bytes_at_any_time(make_bundle, tmp_path):
    make_bundle().save(tmp_path / "a.npz")
    time.sleep(0.01)
    make_bundle().save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_numpy_reads_the_published_keys(make_bundle, saved):
    with np.load(saved) as archive:
        assert {"faces", "mel_3cs", "mdist", "latency", "conf"} <= set(archive)
        np.testing.assert_array_equal(archive["faces"], make_bundle().faces)


def test_light_loading_does_not_touch_audio_and_track(saved, tmp_path):
    broken = rewrite(saved, tmp_path / "light.npz", audio=b"garbage", track=b"garbage")
    light = Bundle.load(broken, full=False)
    assert all(getattr(light, name) is None for name in HEAVY)
    with pytest.raises(BundleError, match=r"light.npz: audio is no array.*crop the video again"):
        Bundle.load(broken)


def test_track_images_decode_one_by_one(make_bundle):
    image = np.full((16, 16, 3), (200, 30, 60), np.uint8)  # RGB
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    bundle = make_bundle(track=np.tile(jpeg, 25), track_offsets=np.arange(26) * len(jpeg))
    assert abs(bundle.frame(24).astype(int) - image).max() <= 4
    with pytest.raises(BundleError, match="image 3 of the track is damaged"):
        make_bundle(track=np.zeros(25, np.uint8), track_offsets=np.arange(26)).frame(3)
    with pytest.raises(BundleError, match="store_track=true"):
        make_bundle(track=None).frame(0)


def test_a_stamp_is_read_without_the_arrays(make_bundle, saved):
    bundle, stamp = make_bundle(), read_stamp(saved)
    assert stamp.prep_hash == bundle.prep_hash and stamp.source_sha256 == bundle.source_sha256
    assert stamp.faces == bundle.faces.shape and stamp.shifts == len(bundle.mdist)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"faces": np.zeros((8, 64, 60, 3), np.uint8)}, r"faces is uint8 \(8, 64, 60, 3\)"),
        ({"faces": np.zeros((8, 64, 64, 3), np.float32)}, "faces is float32"),
        ({"faces": np.zeros((0, 64, 64, 3), np.uint8)}, "holds no face"),
        ({"mel_3cs": np.full((3, 64, 10), np.nan, np.float16)}, "mel_3cs is not finite"),
        ({"mdist": np.ones(30, np.float32)}, "30 shifts, expected an odd number"),
        ({"mdist": np.full(31, np.nan, np.float32)}, "not finite"),
        ({"status": "no_audio"}, "should be unknown"),
        ({"sync": "off"}, "should be unknown"),
        ({"landmarks": np.zeros((25, 5, 3), np.float32)}, "landmarks is"),
        ({"times": np.zeros(24, np.float32)}, "times is"),
        ({"boxes": np.full((25, 4), np.inf, np.float32)}, "boxes is not finite"),
        ({"audio": np.zeros((10, 2), np.int16)}, "audio is"),
        ({"audio": np.zeros(9000, np.int16)}, "audio lasts 14.1 frames of the track's 25"),
        ({"audio": np.zeros(0, np.int16)}, "audio lasts 0.0 frames of the track's 25"),
        ({"settings": "{}"}, "settings name no resample_rate"),
        ({"settings": "[" * 100_000}, "settings name no resample_rate"),
        ({"mel_3cs": np.zeros((3, 64, 0), np.float16)}, r"mel_3cs is \(3, 64, 0\): it has no step"),
        ({"mel_3cs": np.zeros((3, 0, 101), np.float16)}, r"mel_3cs is \(3, 0, 101\)"),
        ({"faces": np.zeros((8, 8, 8, 3), np.uint8)}, r"\(8, 8, 8, 3\): 8 pixels a side, 16 are needed"),
        ({"fps": np.float32(0)}, "fps is 0, expected a number above 0"),
        ({"fps": np.float32(-25)}, "fps is -25"),
        ({"status": "no_face"}, "status is 'no_face', expected ok or no_audio"),
        ({"track_offsets": np.arange(26)}, "does not fit the track"),
        ({"status": "fine"}, "status is 'fine'"),
    ],
)
def test_what_breaks_the_schema_is_neither_saved_nor_loaded(make_bundle, monkeypatch, tmp_path, changes, message):
    bundle = make_bundle(**changes)
    with pytest.raises(BundleError, match=message):
        bundle.save(tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(bundles, "_fault", lambda bundle: None)
        bundle.save(tmp_path / "a.npz")
    with pytest.raises(BundleError, match=f"a.npz: .*{message}.*crop the video again"):
        Bundle.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("(True, )", "states a shape that none has"),
        ("(-1, )", "states a shape that none has"),
        (f"(0x{'F' * 6000}, )", "states a shape that none has"),
        ("(2, 2, 2, 2, 1)", "states a shape that none has"),
        (f"({'9' * 5000}, )", "its header cannot be read"),
        ("(2.5, )", "its header cannot be read"),
        ("[", "its header cannot be read"),
    ],
    ids=["bool", "negative", "huge", "five axes", "digits", "fraction", "no end"],
)
def test_an_odd_header_has_one_message_and_none_of_pythons_words(saved, tmp_path, shape, said):
    header = f"{{'descr': '<i2', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    member = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + bytes(32)
    path = rewrite(saved, tmp_path / "odd.npz", audio=member)
    for read in (Bundle.load, read_stamp):
        with pytest.raises(BundleError, match=rf"odd.npz: audio is no array: [^(]*{said}; crop the video again$"):
            read(path)


def test_a_text_is_one_text(saved, tmp_path):
    path = rewrite(saved, tmp_path / "a.npz", prep_hash=npy(np.asarray(["a", "b"])))
    for read in (Bundle.load, read_stamp):
        with pytest.raises(BundleError, match=r"a.npz: prep_hash is <U1 \(2,\), expected one text"):
            read(path)


def test_what_a_bundle_says_of_itself(make_bundle, tiny_config):
    bundle = make_bundle()
    assert (bundle.sample_rate, bundle.has_sound, bundle.has_track) == (16000, True, True)
    assert not make_bundle(status="no_audio").has_sound and not make_bundle(track=None).has_track
    assert list(bundle.kept_frames) == [1, 4, 7, 10, 14, 17, 20, 23]
    with pytest.raises(BundleError, match="resample_rate"):
        _ = make_bundle(settings='{"resample_rate": "16000"}').sample_rate


def test_a_part_of_a_clip_is_its_frames_with_their_sound(make_bundle, tmp_path):
    whole = make_bundle()
    part = whole.slice(5, 20)
    assert part.track_frames == 15 and part.times[0] == whole.times[5]
    np.testing.assert_array_equal(part.audio, whole.audio[5 * 640 : 20 * 640])
    np.testing.assert_array_equal(part.frame(0), whole.frame(5))
    np.testing.assert_array_equal(part.mdist, whole.mdist)
    part.save(tmp_path / "part.npz")  # as valid as the whole
    nan = np.float32("nan")
    silent = make_bundle(status="no_audio", mdist=np.full(31, nan), latency=nan, conf=nan, audio=np.zeros(0, np.int16))
    silent.slice(0, 12).save(tmp_path / "silent.npz")
    with pytest.raises(BundleError, match="frames 20 to 25 are no part of a track of 25"):
        whole.slice(20, 26)


def test_a_blank_bundle_keeps_the_schema(tiny_config, tmp_path):
    Bundle.blank(tiny_config).save(tmp_path / "blank.npz")
    assert Bundle.load(tmp_path / "blank.npz").sample_rate == tiny_config.resample_rate


def test_a_silent_bundle_knows_nothing_of_sync(make_bundle, tmp_path):
    nan = np.float32("nan")
    make_bundle(status="no_audio", mdist=np.full(31, nan), latency=nan, conf=nan).save(tmp_path / "a.npz")
    assert np.isnan(Bundle.load(tmp_path / "a.npz").latency_vector).all()


class Payload:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["faces", "prep_hash", "schema_version"])
def test_pickled_objects_are_refused_and_do_not_run(saved, tmp_path, name):
    mark = tmp_path / "ran"
    hostile = np.empty((), object)
    hostile[()] = Payload(mark)
    path = rewrite(saved, tmp_path / "hostile.npz", **{name: npy(hostile, allow_pickle=True)})
    for read in (Bundle.load, read_stamp):
        if name != "schema_version" or read is Bundle.load:  # a stamp does not need it
            with pytest.raises(BundleError, match=rf"hostile.npz: {name} holds Python objects, which are never loaded"):
                read(path)
    assert not mark.exists()


def test_a_header_that_lies_about_its_size_allocates_nothing(saved, tmp_path):
    honest = npy(np.zeros((8, 64, 64, 3), np.uint8))
    lying = honest.replace(b"(8, 64, 64, 3), }            ", b"(8, 64, 64, 30000000000), }  ")
    path = rewrite(saved, tmp_path / "lying.npz", faces=lying)
    for read in (Bundle.load, read_stamp):
        with pytest.raises(BundleError, match=r"lying.npz: faces says it is uint8 .* bytes, and holds 98304"):
            read(path)


def test_a_zip_bomb_is_refused_before_it_unpacks(saved, tmp_path):
    bomb = rewrite(saved, tmp_path / "bomb.npz", zipfile.ZIP_DEFLATED, audio=npy(np.zeros(1 << 24, np.int16)))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(BundleError, match="bomb.npz: .*compressed"):
        Bundle.load(bomb)


def test_a_member_that_is_missing_is_named(saved, tmp_path):
    path = rewrite(saved, tmp_path / "a.npz", mdist=None, status=None)
    with pytest.raises(BundleError, match="a.npz: lacks mdist, status"):
        Bundle.load(path)


def test_another_schema_version_is_refused(saved, tmp_path):
    path = rewrite(saved, tmp_path / "a.npz", schema_version=npy(np.asarray(2)))
    with pytest.raises(BundleError, match="schema version 2, this code reads 1"):
        Bundle.load(path)


@pytest.mark.parametrize("share", [0, 0.1, 0.9, 0.999])
def test_a_truncated_file_is_said_to_be_no_bundle(saved, tmp_path, share):
    data = saved.read_bytes()
    (tmp_path / "short.npz").write_bytes(data[: int(share * len(data))])
    for read in (Bundle.load, read_stamp):
        with pytest.raises(BundleError, match="short.npz: .*crop the video again"):
            read(tmp_path / "short.npz")


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="python crop.py"):
        Bundle.load(tmp_path / "none.npz")


def test_flipped_bytes_give_the_same_bundle_or_an_error_that_names_the_file(saved, tmp_path):
    data, rng = saved.read_bytes(), np.random.default_rng(0)
    tail = np.arange(len(data) - 2500, len(data))  # the zip directory, where parsing can go astray
    for position in [*rng.integers(0, len(data), 100), *rng.choice(tail, 200)]:
        damaged = bytearray(data)
        damaged[position] ^= int(rng.integers(1, 256))
        path = tmp_path / "damaged.npz"
        path.write_bytes(damaged)
        try:
            loaded = Bundle.load(path)
        except BundleError as error:
            assert "damaged.npz: " in str(error)
        else:
            np.testing.assert_array_equal(loaded.faces, Bundle.load(saved).faces)


def test_a_full_disk_leaves_nothing_behind(make_bundle, saved, tmp_path):
    """A limit on the size of files stands in for the disk."""
    before = saved.read_bytes()
    code = (
        "import sys; from visavox.bundle import Bundle; bundle = Bundle.load(sys.argv[1])\n"
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); bundle.save(sys.argv[1])"
    )
    assert saved.stat().st_size > 50_000
    ran = subprocess.run([sys.executable, "-c", code, saved], capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and "free some space and resume" in ran.stderr
    assert list(tmp_path.iterdir()) == [saved] and saved.read_bytes() == before


def other_value(name: str, config: Config):
    """A valid value of a setting that is not the one it has."""
    changed = {
        "face_detector": "retinaface_mobilenet0.25",
        "sync": "off",
        "sync_pad": "zero",
        "detector": config.detector.model_copy(update={"num_layers": 3}),
        "attention_type": "space_only",
        "device": "cuda",
        "precision": "bf16-mixed",
        "optimizer": "sgd",
        "wandb": "offline",
    }
    value = getattr(config, name)
    if name in changed:
        return changed[name]
    if value is None:
        return 7
    if isinstance(value, list):
        return [*value, "kodf"]
    return not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize("name", Config.model_fields)
def test_prep_hash_changes_with_every_setting_of_preprocessing_and_no_other(tiny_config, name):
    other = tiny_config.model_copy(update={name: other_value(name, tiny_config)})
    assert getattr(other, name) != getattr(tiny_config, name)
    changed = prep_hash(other) != prep_hash(tiny_config)
    assert changed == (Prep in Config.model_fields[name].metadata)


def test_prep_hash_changes_with_the_version(tiny_config, monkeypatch):
    before = prep_hash(tiny_config)
    monkeypatch.setattr(provenance, "PREP_VERSION", provenance.PREP_VERSION + 1)
    assert prep_hash(tiny_config) != before


def test_differing_settings_are_said_both_ways(make_bundle, saved, tiny_config):
    other = tiny_config.model_copy(update={"sync": "syncnet", "vshift": 10})
    for thing in (make_bundle(), read_stamp(saved)):
        assert differing_settings(thing, other) == ("sync: correlation there, syncnet here; vshift: 15 there, 10 here")


def test_every_member_is_a_field_and_has_a_meaning():
    fields = {field.name for field in dataclasses.fields(Bundle)}
    assert fields == {*ARRAYS, *TEXTS, "schema_version"}


def test_faces_are_mapped_and_equal_where_audio_and_track_are_left_out(make_bundle, tmp_path):
    bundle = make_bundle(seed=3)
    bundle.save(tmp_path / "clip.npz")
    light = Bundle.load(tmp_path / "clip.npz", full=False, mapped=True)
    np.testing.assert_array_equal(light.faces, bundle.faces)
    assert isinstance(light.faces.base, np.memmap) and not light.faces.flags.writeable
    assert isinstance(Bundle.load(tmp_path / "clip.npz").faces, np.ndarray) and light.track is None


def test_threads_never_parse_headers_at_once(saved, monkeypatch):
    """CPython 3.11 can end in "AST constructor recursion depth mismatch" when two threads parse at a time."""
    parse, inside, most = np.lib.format.read_array_header_1_0, 0, 0

    def slow(member):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        inside -= 1
        return parse(member)

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", slow)
    with ThreadPoolExecutor(4) as pool:
        stamps = list(pool.map(read_stamp, [saved] * 8))
    assert len(set(stamps)) == 1 and most == 1


@pytest.mark.parametrize("name", ["max_clip_len", "face_margin"])
def test_a_default_hashes_like_the_same_number_written_down(name):
    """An integer 16 that the code holds and a 16.0 that was read from a file would make bundles strangers to each other."""
    plain = Config(sync="off", face_detector="haar")
    assert prep_hash(Config(sync="off", face_detector="haar", **{name: getattr(plain, name)})) == prep_hash(plain)
    assert prep_hash(Config(sync="off", face_detector="haar", max_clip_len=16)) == prep_hash(plain)
