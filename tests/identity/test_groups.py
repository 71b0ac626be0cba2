"""Who is who: distances, thresholds and groups; the trained networks where their packages are installed."""

import csv
import importlib.util
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from visavox.__main__ import main
from visavox.bundle import Bundle
from visavox.commands import groups as command
from visavox.identity import installed, voices
from visavox.identity.grouping import IdentityError, at, calibrated, grouped, pairs
from visavox.splits.groups import find_leak
from visavox.splits.table import read_split
from visavox.weights import WeightsError

pytestmark = pytest.mark.usefixtures("one_thread")
PEOPLE, CLIPS = 6, 4


def people(width: int = 8, apart: float = 1.0, spread: float = 0.05) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Vectors of CLIPS clips of PEOPLE, and who they are of."""
    rng = np.random.default_rng(3)
    middles = apart * rng.standard_normal((PEOPLE, width))
    vectors = {
        f"{kind}/p{who}/{clip}.npz": middles[who] + spread * rng.standard_normal(width)
        for who in range(PEOPLE)
        for clip, kind in enumerate(("real", "real", "fake", "fake"))
    }
    return vectors, {name: name.split("/")[1] for name in vectors}


def test_a_calibrated_threshold_errs_no_more_than_was_allowed():
    vectors, who = people(apart=0.1, spread=0.1)  # they overlap
    names = list(vectors)
    far = sorted(
        np.linalg.norm(vectors[a] - vectors[b]) for i, a in enumerate(names) for b in names[i + 1 :] if who[a] != who[b]
    )
    for most in (0.0, 0.01, 0.2):
        found = calibrated(vectors, who, most)
        assert found.joined == sum(d <= found.threshold for d in far) <= most * len(far)
        assert found.joined + 1 > most * len(far) or far[found.joined] > found.threshold, "the largest such threshold"
        assert (found.same, found.others) == (PEOPLE * 6, len(far)) and 0 < found.missed < found.same
    assert calibrated(vectors, who, 0.2).missed < calibrated(vectors, who, 0.01).missed
    assert at(1.0, np.array([0.5, 1.0, 1.5]), np.array([0.9, 1.1])) == (type(found))(1.0, 3, 1, 2, 1)
    assert "1 of 2 pairs of two people match (50.00%), 1 of 3 pairs of one person do not (33.33%)" in str(
        at(1.0, np.array([0.5, 1.0, 1.5]), np.array([0.9, 1.1]))
    )


def test_a_threshold_needs_pairs_of_both_kinds():
    vectors, who = people()
    with pytest.raises(IdentityError, match="0 pairs of one person"):
        calibrated(vectors, {name: name for name in vectors}, 0.01)
    with pytest.raises(IdentityError, match="0 of two among 4 named"):
        calibrated(vectors, {name: one for name, one in who.items() if one == "p1"}, 0.01)
    with pytest.raises(IdentityError, match="among 0 named"):
        calibrated({}, {}, 0.01)


def test_two_people_with_one_sound_do_not_match_at_a_share_of_none():
    vectors = {
        "a": np.zeros(2),
        "b": np.zeros(2),
        "c": np.ones(2),
        "d": np.ones(2),
    }  # a and b, named apart, are one recording
    found = calibrated(vectors, {"a": "x", "b": "y", "c": "z", "d": "z"}, 0.0)
    assert found.joined == 0 and found.threshold < 0 and (found.missed, found.same) == (1, 1)


def test_groups_are_the_people_and_chains_stay_together():
    vectors, who = people()
    found = grouped(vectors, calibrated(vectors, who, 0.0).threshold)
    assert sorted(map(sorted, found)) == sorted(sorted(n for n in who if who[n] == p) for p in set(who.values()))
    assert pairs(found, who, list(vectors)) == (PEOPLE * 6,) * 3
    line = {name: np.array([x]) for name, x in zip("abcd", (0.0, 1.0, 2.0, 9.0))}
    assert grouped(line, 1.0) == [["a", "b", "c"]], "a and c are linked through b"
    assert grouped(line, 0.5) == [] and grouped({}, 1.0) == []
    assert pairs([["a", "b", "c"]], {"a": "x", "b": "x", "c": "y", "d": "y"}, list("abcd")) == (1, 3, 2)


def test_distances_in_blocks_are_those_of_all_at_once(monkeypatch):
    from visavox.identity import grouping

    monkeypatch.setattr(grouping, "BLOCK", 5)
    vectors, _ = people()
    full = np.stack(list(vectors.values()))
    found = np.concatenate([rows for _, rows in grouping.rows(full)])
    assert np.abs(found - np.linalg.norm(full[:, None] - full[None], axis=2)).max() < 1e-6


@pytest.fixture
def bundles(make_bundle, tmp_path: Path, monkeypatch):
    """A folder of bundles of nobody's, and a network that knows them by the clip; `asked` counts what it was given."""
    vectors, who = people()
    asked: list[str] = []
    known = {}
    for seed, (name, vector) in enumerate(vectors.items()):
        bundle = make_bundle(seed)
        known[bundle.source_sha256] = vector
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bundle.save(path)

    def judge(bundle: Bundle) -> np.ndarray:
        asked.append(bundle.source_sha256)
        return known[bundle.source_sha256]

    monkeypatch.setattr(command, "_loaded", lambda kind: judge if kind == "faces" else lambda bundle: None)
    return types.SimpleNamespace(root=tmp_path / "clips", who=who, asked=asked)


def test_groups_feed_a_split_in_which_nobody_stands_twice(bundles, tmp_path: Path, capsys):
    root, output = bundles.root, tmp_path / "groups.csv"
    words = ["groups", root, "--faces", "--voices", "--named", root, "--output", output, "--keep", tmp_path / "kept"]
    with pytest.raises(SystemExit):
        main(["groups", str(root)])
    assert main([*map(str, words), "--sheets", str(tmp_path / "sheets")]) == 2, "nobody has a voice to calibrate on"
    assert "0 pairs of one person" in capsys.readouterr().err
    words.remove("--voices")
    assert main([*map(str, words), "--sheets", str(tmp_path / "sheets"), "--prefix", "c"]) == 0
    said = capsys.readouterr().out
    assert (
        "24 of 24 clips in 6 groups, the largest of 4" in said
        and "of 36 pairs in one group 36 are of one person" in said
    )
    assert len(bundles.asked) == len(set(bundles.asked)) == 24, "each clip was embedded once, whatever asked for it"
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["filename"] for row in rows} == set(bundles.who)
    for one in rows:
        for other in rows:
            same = bundles.who[one["filename"]] == bundles.who[other["filename"]]
            assert (one["identity"] == other["identity"]) == same and one["identity"].startswith("c:face ")
    sheets = sorted((tmp_path / "sheets").glob("*.png"))
    assert len(sheets) == 6 and cv2.imread(str(sheets[0])).shape[0] == 4 * 96

    anonymous = tmp_path / "anonymous"  # the same clips, as a corpus has them that names nobody
    for name in bundles.who:
        target = anonymous / name.split("/")[0] / name.replace("/", "_")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((root / name).read_bytes())
    lines = [f"{row['filename'].split('/')[0]}/{row['filename'].replace('/', '_')},{row['identity']}" for row in rows]
    (tmp_path / "anonymous.csv").write_text("\n".join(["filename,identity", *lines]))
    split = [
        "corpora",
        "folder",
        "--root",
        anonymous,
        "--output",
        tmp_path / "data/s.csv",
        "--val",
        "0.34",
        "--test",
        "0.33",
    ]
    assert main([*map(str, split), "--groups", str(tmp_path / "anonymous.csv")]) == 0
    table = read_split(tmp_path / "data/s.csv", tmp_path)
    people_of = table.assign(who=[Path(name).name.split("_")[1] for name in table["filename"]]).groupby("who")["split"]
    assert people_of.nunique().eq(1).all() and find_leak(table) is None and table["split"].nunique() == 3


def test_halves_stand_for_people_with_one_clip(bundles, tmp_path: Path, capsys):
    assert main(["groups", "--named", str(bundles.root), "--faces", "--halves"]) == 0
    assert "faces of 48 named halves" in capsys.readouterr().out and len(bundles.asked) == 48


def test_what_cannot_be_read_is_said_and_the_rest_is_grouped(bundles, tmp_path: Path, capsys):
    (bundles.root / "real/p0/0.npz").write_bytes(b"no bundle")
    words = ["groups", bundles.root, "--faces", "--output", tmp_path / "g.csv", "--names", tmp_path / "none.csv"]
    assert main(list(map(str, words))) == 1
    said = capsys.readouterr()
    assert (
        "published threshold 0.6" in said.out
        and "23 of 24 clips in 6 groups" in said.out
        and "real/p0/0.npz" in said.err
    )
    assert main(["groups", "--named", str(bundles.root), "--faces"]) == 1
    assert "23 named clips" in capsys.readouterr().out
    assert main(["groups", str(bundles.root), "--voices", "--output", str(tmp_path / "g.csv")]) == 2
    assert "nobody publishes a threshold for voices" in capsys.readouterr().err


def test_a_network_that_is_not_installed_says_what_to_type(monkeypatch, capsys, tmp_path: Path):
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install --no-deps resemblyzer"):
        voices.Voices.load()
    (tmp_path / "real").mkdir()
    assert main(["groups", str(tmp_path), "--voices", "--output", str(tmp_path / "g.csv")]) == 2
    assert "resemblyzer is not installed: pip install" in capsys.readouterr().err


def test_partial_utterances_and_spectrogram_are_those_of_librosa():
    import librosa

    assert [len(voices.partials(n)) for n in (1, 8000, 25600, 26000, 48000, 100000, 163000)] == [1, 1, 1, 1, 3, 7, 12]
    sound = (0.1 * np.random.default_rng(0).standard_normal(20000)).astype(np.float32)
    theirs = librosa.feature.melspectrogram(y=sound, sr=16000, n_fft=400, hop_length=160, n_mels=40)
    assert np.abs(voices.mel_power(sound) - theirs.T).max() < 1e-6 * theirs.max()
    assert abs(voices.level(voices.louder(sound * np.float32(0.01))) + 30) < 1e-3
    assert voices.louder(np.zeros(9, np.float32)).max() == 0 and np.array_equal(voices.louder(sound), sound)
    network = voices.Voices(voices.Network().eval())
    assert network.embed(np.zeros(40000, np.float32)) is None
    assert abs(np.linalg.norm(network.embed(sound)) - 1) < 1e-5


def test_the_voice_is_that_of_the_published_code(monkeypatch):
    """Its own network and cutting; what it imports for cutting out silences, and does not use here, is stood in for."""
    if importlib.util.find_spec("resemblyzer") is None:
        pytest.skip("pip install --no-deps resemblyzer")
    for name in ("webrtcvad", "scipy.ndimage.morphology"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(binary_dilation=None))
    import resemblyzer

    theirs, ours = resemblyzer.VoiceEncoder("cpu", verbose=False), voices.Voices.load()
    rng = np.random.default_rng(0)
    for samples in (8000, 26000, 100000):
        sound = (0.1 * rng.standard_normal(samples)).astype(np.float32)
        assert np.abs(theirs.embed_utterance(sound) - ours.embed(sound)).max() < 1e-6


@pytest.mark.data
def test_real_people_are_told_apart(clips: Path):
    """Two copies of one video, one of them with its sound late, and two other people; at the published threshold of faces."""
    if importlib.util.find_spec("dlib") is None or importlib.util.find_spec("resemblyzer") is None:
        pytest.skip("pip install 'visavox[identity]'; pip install --no-deps resemblyzer")
    from visavox import config as configuration
    from visavox.identity.faces import THRESHOLD, Faces
    from visavox.preprocessing import tools

    words = ["sync=off", "face_detector=haar", "max_clip_len=3", "device=cpu"]
    preprocess = tools.build(configuration.load(None, words), 1)
    names = ("syncnet_example.avi", "syncnet_test_offset_5.avi", "may.mp4", "vrt_1.mp4")
    bundles = [preprocess(clips / "real" / name) for name in names]
    for judge, most in ((Faces.load(), THRESHOLD), (voices.Voices.load(), 0.65)):
        one, again, *others = [judge(bundle) for bundle in bundles]
        assert np.linalg.norm(one - again) < most < min(np.linalg.norm(one - other) for other in others)
        assert np.linalg.norm(others[0] - others[1]) > most
