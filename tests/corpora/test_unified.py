"""2D3MF's unified layout: sound joined to its videos, and clips read so that nobody stands in two splits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from visavox import media
from visavox.corpora import join_audio
from visavox.corpora.__main__ import main
from visavox.splits.groups import find_leak
from visavox.splits.table import read_split


def lay_out(root: Path, stems: list[str]) -> Path:
    """Empty videos and bundles: reading a split opens none."""
    for stem in stems:
        for path in (root / "video" / f"{stem}.mp4", root.parent / "bundles" / root.name / "video" / f"{stem}.npz"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def make(root: Path, *more: str) -> int:
    bundles, output = root.parent / "bundles" / root.name, root.parent / "data" / "split.csv"
    return main(["unified", "--root", str(root), "--bundles", str(bundles), "--output", str(output), *more])


def rows(root: Path) -> pd.DataFrame:
    table = read_split(root.parent / "data/split.csv", root.parent, part=True)
    return table.assign(stem=[Path(name).stem for name in table["filename"]]).set_index("stem")


@pytest.mark.parametrize(
    ("name", "corpus", "people"),
    [
        (
            "Forensics++",
            "ffpp",
            {"071-0": ("ffpp:071", ""), "071_054-1": ("ffpp:071", "ffpp:054"), "054-0": ("ffpp:054", "")},
        ),
        (
            "FakeAVCeleb",
            "fakeavceleb",
            {
                "00109-id00076-0": ("voxceleb2:id00076", ""),
                "00010-id00076-id01234-wavtolip-1": ("voxceleb2:id00076", "voxceleb2:id01234"),
            },
        ),
        (
            "DeepfakeTIMIT",
            "deepfaketimit",
            {"fadg0-sa1-video-fram1-1": ("vidtimit:fadg0", "vidtimit:fram1"), "mccs0-sa2-0": ("vidtimit:mccs0", "")},
        ),
        ("DFDC", "dfdc", {"aagfhgtpmv-1": ("dfdc:aagfhgtpmv", ""), "vudstovrck-0": ("dfdc:vudstovrck", "")}),
    ],
)
def test_who_is_in_a_clip_is_read_from_its_name(
    name: str, corpus: str, people: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    root = lay_out(tmp_path / name, list(people))
    assert make(root, "--test", "1", "--val", "0") == 0
    found = rows(root)
    assert set(found["corpus"]) == {corpus}
    for stem, (source, donors) in people.items():
        assert found.loc[stem, ["source", "donors"]].tolist() == [source, donors]
        assert found.loc[stem, "label"] == int(stem[-1])


def test_the_shares_of_gen_split_leak_nobody(tmp_path: Path) -> None:
    """`gen_split.py --test 0.1 --val 0.1` shares FaceForensics++ out by file; here a fake stays with both it is made of."""
    pairs = [(f"{2 * i:03d}", f"{2 * i + 1:03d}") for i in range(20)]
    stems = [f"{one}-0" for pair in pairs for one in pair] + [f"{a}_{b}-1" for a, b in pairs]
    root = lay_out(tmp_path / "Forensics++", stems)
    assert make(root, "--test", "0.1", "--val", "0.1") == 0
    table = rows(root)
    assert table["split"].value_counts().to_dict() == {"train": 48, "val": 6, "test": 6}
    assert find_leak(table) is None


def test_an_original_and_its_fakes_stay_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = lay_out(tmp_path / "DFDC", ["aa-1", "bb-1", "cc-0", "dd-0", "ee-0", "ff-1"])
    assert make(root, "--test", "0.4", "--val", "0.2") == 0
    assert "without a metadata.json" in capsys.readouterr().out
    (root / "metadata.json").write_text(
        '{"aa.mp4": {"label": "FAKE", "original": "cc.mp4"}, "bb.mp4": {"label": "FAKE", "original": "cc.mp4"},'
        ' "cc.mp4": {"label": "REAL"}}'
    )
    assert make(root, "--test", "0.4", "--val", "0.2") == 0
    assert "without a metadata.json" not in capsys.readouterr().out
    found = rows(root)
    assert found.loc[["aa-1", "bb-1", "cc-0"], "source"].unique().tolist() == ["dfdc:cc"]
    assert found.loc[["aa-1", "bb-1", "cc-0"], "split"].nunique() == 1


def test_ravdess_has_emotions_and_its_published_split(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "RAVDESS", ["01-01-06-01-02-01-12", "01-01-03-01-02-01-05-0", "01-01-05-01-01-01-11"])
    assert make(root, "--protocol", "official") == 0
    found = rows(root)
    assert found["emotion"].tolist() == ["happy", "angry", "fearful"] and set(found["label"]) == {0}
    assert found["split"].tolist() == ["test", "val", "train"]


@pytest.mark.parametrize(
    ("name", "stem", "says"),
    [
        ("Other", "a-0", "named DeepfakeTIMIT, DFDC, FakeAVCeleb"),
        ("FakeAVCeleb", "00109-id00076", "ends in -0 (real) or -1 (fake)"),
        ("FakeAVCeleb", "00109-1", "names nobody whom fakeavceleb knows"),
        ("RAVDESS", "happy-0", "expected seven numbers"),
    ],
)
def test_names_that_say_nothing_are_refused(
    name: str, stem: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(lay_out(tmp_path / name, [stem])) == 2
    assert says in capsys.readouterr().err


RATE = 16000


def video(path: Path, tone: float | None) -> None:
    """A second of grey noise, with a tone or without sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(0).integers(0, 255, (25, 64, 64, 3), np.uint8)
    media.write_video(path, frames, None if tone is None else sine(tone), fps=25, sample_rate=RATE)


def sine(tone: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (9000 * np.sin(2 * np.pi * tone * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def pitch(path: Path) -> float | None:
    """The strongest frequency of a video's sound in Hz; None without sound."""
    with media.open_video(path, sample_rate=RATE) as opened:
        frames = list(opened.frames())
        sound = opened.audio()
    assert len(frames) == 25
    return None if sound is None else float(np.abs(np.fft.rfft(sound[:RATE])).argmax())


def test_sound_is_joined_where_a_video_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, output = tmp_path / "set", tmp_path / "joined"
    folder = root / "Forensics++"
    for stem, tone in (("own-0", 400), ("mute-1", None), ("071_054-1", None), ("alone-0", None)):
        video(folder / "video" / f"{stem}.mp4", tone)
    (folder / "audio").mkdir()
    soundfile.write(folder / "audio/own-0.wav", sine(700), RATE)
    soundfile.write(folder / "audio/mute-1.wav", np.stack([sine(900, 3, 44100)] * 2, 1), 44100)
    soundfile.write(folder / "audio/071.wav", sine(1100, rate=15000), 15000)
    words = ["--root", str(root), "--output", str(output)]
    assert join_audio.main(words) == 0
    assert "4 videos: 2 joined, 1 with their own sound, 1 without sound, 0 failed" in capsys.readouterr().out
    made = output / "Forensics++/video"
    assert {path.stem: pitch(path) for path in made.glob("*.mp4")} == {
        "own-0": pytest.approx(400, abs=2),
        "mute-1": pytest.approx(900, abs=2),
        "071_054-1": pytest.approx(1100, abs=2),
        "alone-0": None,
    }
    assert join_audio.main(words) == 0 and "4 kept" in capsys.readouterr().out
    assert join_audio.main(["--root", str(root), "--output", str(tmp_path / "wav"), "--prefer", "wav"]) == 0
    assert pitch(tmp_path / "wav/Forensics++/video/own-0.mp4") == pytest.approx(700, abs=2)


def test_bad_files_cost_their_own_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = tmp_path / "DFDC", tmp_path / "joined"
    video(folder / "video/good-0.mp4", None)
    video(folder / "video/odd-1.mp4", None)
    (folder / "video/broken-1.mp4").write_bytes(b"no video at all")
    (folder / "audio").mkdir()
    soundfile.write(folder / "audio/good-0.wav", sine(500), RATE)
    (folder / "audio/odd-1.wav").write_bytes(b"RIFF of nothing")
    assert join_audio.main(["--root", str(folder), "--output", str(output)]) == 1
    said = capsys.readouterr()
    assert "3 videos: 1 joined, 2 failed" in said.out and "odd-1.wav is no sound file" in said.err
    assert [path.name for path in (output / "video").iterdir()] == ["good-0.mp4"]
    assert join_audio.main(["--root", str(folder / "audio"), "--output", str(output)]) == 2
