"""Feature files: what they hold, what is refused, and the command that fills a folder with them."""

import csv
import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from visavox import config as configuration
from visavox.bundle import Bundle, BundleError
from visavox.commands import features as command
from visavox.config import Config
from visavox.detectors.td3mf.features import Extractor, FeatureError, FeatureFolder, Features, resampled

TINY = Path(__file__).parents[3] / "configs" / "td3mf_tiny.json"


@pytest.fixture(scope="module")
def config() -> Config:
    return configuration.load(TINY)


def extractor(config: Config, audio: str = "resnet_tiny", **more: object) -> Extractor:
    return Extractor.build("marlin_vit_tiny", audio, config, weights="random", **more)


@pytest.fixture(scope="module")
def extract(config: Config) -> Extractor:
    return extractor(config, steps=4)


def sounding(make_bundle: Callable[..., Bundle], seconds: float = 3.0, seed: int = 0, **changes: object) -> Bundle:
    """A bundle of some seconds: 25 images each, sound of random numbers."""
    one = make_bundle(seed=seed)
    frames = round(25 * seconds)
    repeats = -(-frames // one.track_frames)
    sizes = np.tile(np.diff(one.track_offsets), repeats)[:frames]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    members = {
        "track": np.tile(one.track, repeats)[: offsets[-1]],
        "track_offsets": offsets,
        "audio": np.random.default_rng(seed).integers(-3000, 3000, round(16000 * seconds), np.int16),
        "times": (np.arange(frames) / 25).astype(np.float32),
        **{
            name: np.tile(getattr(one, name), (repeats, *[1] * (getattr(one, name).ndim - 1)))[:frames]
            for name in ("boxes", "landmarks", "det_score")
        },
    }
    return make_bundle(seed=seed, **(members | changes))


def silent(bundle: Bundle) -> dict[str, object]:
    unknown = np.float32("nan")
    return {"status": "no_audio", "mdist": np.full_like(bundle.mdist, unknown), "latency": unknown, "conf": unknown}


def test_features_of_a_bundle(extract: Extractor, make_bundle: Callable[..., Bundle]) -> None:
    features = extract(sounding(make_bundle))
    assert features.video.shape == (2, 24) and features.audio.shape == (2, 32)
    assert features.source_sha256 == make_bundle().source_sha256
    again = extract(sounding(make_bundle))
    assert np.array_equal(again.video, features.video) and np.array_equal(again.audio, features.audio)
    moved = extract(sounding(make_bundle, audio=np.zeros(48000, np.int16)))
    assert np.array_equal(moved.video, features.video) and not np.allclose(moved.audio, features.audio)
    assert len(extract(sounding(make_bundle, 0.4)).video) == 1
    assert len(extract(sounding(make_bundle, 8)).video) == 4, "steps are the most there are"


def test_sound_begins_where_a_step_of_the_video_does(extract: Extractor, make_bundle: Callable[..., Bundle]) -> None:
    sound = np.zeros(48000, np.int16)
    sound[round(1.28 * 16000) : 36480] = np.random.default_rng(0).integers(-9000, 9000, 36480 - 20480)
    quiet = extract(sounding(make_bundle, audio=np.zeros(48000, np.int16))).audio
    loud = extract(sounding(make_bundle, audio=sound)).audio
    assert np.allclose(loud[0], quiet[0], atol=1e-3) and not np.allclose(loud[1], quiet[1], atol=0.1)
    short = extract(sounding(make_bundle, audio=sound[: round(1.7 * 16000)]))
    assert len(short.video) == 2 and len(short.audio) == 1, "less than half a second of the second window is there"


def test_a_clip_without_sound_has_no_step_of_sound(
    config: Config, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    bundle = sounding(make_bundle)
    bundle = sounding(make_bundle, **silent(bundle))
    for audio, shape in (("resnet_tiny", (0, 32)), ("MFCC", (0, 10, 87)), ("eat_tiny", (0, 16))):
        features = extractor(config, audio)(bundle)
        assert features.audio.shape == shape and len(features.video) == 2
        features.save(tmp_path / "silent.npz")
        assert Features.load(tmp_path / "silent.npz").audio.shape == shape


def test_a_tone_is_resampled_to_itself() -> None:
    at = lambda rate: np.sin(2 * np.pi * 440 * np.arange(rate) / rate)  # noqa: E731
    found = resampled((at(16000) * 20000).astype(np.int16), 16000, 44100)
    assert found.dtype == np.float32 and len(found) == 44100
    assert np.abs(found - at(44100) * 20000 / 32768)[2000:-2000].max() < 2e-3


def test_saved_and_loaded_is_equal(extract: Extractor, make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    features, path = extract(sounding(make_bundle)), tmp_path / "a.npz"
    features.save(path)
    loaded = Features.load(path, extract.stamp)
    assert np.array_equal(loaded.video, features.video) and np.array_equal(loaded.audio, features.audio)
    assert loaded.stamp == features.stamp and loaded.source_sha256 == features.source_sha256
    assert [found.name for found in tmp_path.iterdir()] == ["a.npz"], "nothing is left beside it"


def test_damaged_files_are_refused(extract: Extractor, make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    features, path = extract(sounding(make_bundle)), tmp_path / "a.npz"
    features.save(path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(FeatureError, match="extract it again"):
            Features.load(path)
    np.savez(path, video=np.array([object()]), audio=0, stamp=0, source_sha256=0)
    with pytest.raises(FeatureError, match="audio holds Python objects|video holds Python objects"):
        Features.load(path)
    np.savez(path, x=1)
    with pytest.raises(FeatureError, match="lacks video, audio, stamp, source_sha256"):
        Features.load(path)
    np.savez_compressed(path, video=np.zeros((1, 1 << 24), np.float32), audio=0, stamp=0, source_sha256=0)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(FeatureError, match="compressed"):
        Features.load(path)
    np.savez(path, video=features.video, audio=features.audio, stamp="[1]", source_sha256="a")
    with pytest.raises(FeatureError, match="no whole file of features"):
        Features.load(path)
    path.write_bytes(whole.replace(b"(2, 24)", b"(9, 24)", 1))
    with pytest.raises(FeatureError, match="no whole file of features .video"):
        Features.load(path)
    features.video[0, 0] = np.nan
    with pytest.raises(FeatureError, match="video is not finite"):
        features.save(path)
    many = Features(np.zeros((5, 24), np.float32), features.audio, features.stamp, features.source_sha256)
    with pytest.raises(FeatureError, match="video has 5 steps, expected 1 to 4"):
        many.save(path)
    with pytest.raises(FeatureError, match="no such file"):
        Features.load(tmp_path / "b.npz")


def test_other_features_are_never_mixed_in(
    config: Config, extract: Extractor, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    bundle = sounding(make_bundle)
    FeatureFolder(tmp_path).add(extract(bundle), "a.npz")
    others = {
        "audio_backbone resnet_tiny, not eat_tiny": extractor(config, "eat_tiny", steps=4),
        "video_sha256": extractor(config, steps=4, seed=1),
        "steps 4, not 5": extractor(config, steps=5),
        "trim_silence none, not both": extractor(config.model_copy(update={"trim_silence": "both"}), steps=4),
    }
    for words, other in others.items():
        with pytest.raises(FeatureError, match=words):
            Features.load(tmp_path / "a.npz", other.stamp)
        with pytest.raises(FeatureError, match="give another folder"):
            FeatureFolder(tmp_path).add(other(bundle))
    others["steps 4, not 5"](bundle).save(tmp_path / "b.npz")
    with pytest.raises(FeatureError, match="mixes features of 2 kinds"):
        FeatureFolder(tmp_path)
    with pytest.raises(BundleError, match="made with other settings"):
        extract(sounding(make_bundle, prep_hash="other"))


WORDS = [
    "--video-backbone",
    "marlin_vit_tiny",
    "--audio-backbone",
    "resnet_tiny",
    "--weights",
    "random",
    "--config",
    str(TINY),
]


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "features.csv").open() as file:
        return {row["filename"]: row for row in csv.DictReader(file)}


def test_the_command_makes_resumes_and_refuses(
    make_bundle: Callable[..., Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles, output = tmp_path / "bundles", tmp_path / "features"
    (bundles / "real").mkdir(parents=True)
    sounding(make_bundle, 2, 1).save(bundles / "real/a.npz")
    other = sounding(make_bundle, 2, 2)
    sounding(make_bundle, 2, 2, **silent(other)).save(bundles / "b.npz")
    words = [*WORDS, "--input", str(bundles), "--output", str(output)]
    assert command.main([*words, "--Forensics"]) == 0
    said = capsys.readouterr()
    assert "2 bundles: 2 done" in said.out and "1 of 2 clips have no sound; FaceForensics++" in said.err
    rows = table(output)
    assert [rows[name]["status"] for name in ("b.npz", "real/a.npz")] == ["done", "done"]
    assert (rows["real/a.npz"]["steps"], rows["real/a.npz"]["sound"], rows["b.npz"]["sound"]) == ("1", "1", "0")

    first = (output / "real/a.npz").stat().st_mtime_ns
    (bundles / "c.npz").write_bytes(b"damaged")
    (output / "b.npz").unlink()
    (output / f"x.npz.{2**22 + 1}.part").write_bytes(b"of a killed process")
    assert command.main(words) == 1
    rows = table(output)
    assert {name: row["status"] for name, row in rows.items()} == {
        "b.npz": "done",
        "c.npz": "failed",
        "real/a.npz": "kept",
    }
    assert "crop the video again" in rows["c.npz"]["reason"]
    assert (output / "real/a.npz").stat().st_mtime_ns == first and not list(output.glob("*.part"))

    (bundles / "c.npz").unlink()
    capsys.readouterr()
    assert command.main([*words, "--seed", "1"]) == 2
    assert "holds other features than are asked for: video_sha256" in capsys.readouterr().err
    assert command.main([*words, "vshift=7"]) == 2
    assert "2 of 2 bundles were made with other settings" in capsys.readouterr().err


def test_the_command_knows_2d3mfs_words(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    make_bundle().save(tmp_path / "bundles/a.npz")
    words = ["--data_dir", str(tmp_path), "--video_backbone", "efficientface_tiny", "--audio_backbone", "MFCC"]
    assert command.main([*words, "--weights", "random", "--config", str(TINY)]) == 0
    assert (tmp_path / "features/efficientface_tiny-MFCC/a.npz").is_file()


def test_the_command_says_what_is_wrong(
    make_bundle: Callable[..., Bundle],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    make_bundle().save(tmp_path / "a.npz")
    words = ["--config", str(TINY), "--input", str(tmp_path / "a.npz"), "--output", str(tmp_path / "out")]
    assert command.main([*words, "--audio-backbone", "emotion2vek", "--video-backbone", "efficientface_tiny"]) == 2
    assert "did you mean emotion2vec?" in capsys.readouterr().err
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert "marlin_vit_small_ytf.encoder.pt" in said and str(tmp_path / "weights") in said
    with pytest.raises(SystemExit):
        command.main(["--config", str(TINY)])
    assert "give --input and --output, or --data_dir" in capsys.readouterr().err


def test_what_a_clip_brings_about_is_its_row_and_a_full_disk_the_end(
    config: Config, extract: Extractor, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    inputs = {f"{seed}.npz": tmp_path / f"in/{seed}.npz" for seed in range(3)}
    for seed, path in enumerate(inputs.values()):
        sounding(make_bundle, seed=seed).save(path)
    raised: list[Exception] = [RuntimeError("CUDA error"), OSError(errno.EIO, "Input/output error")]

    def fails_at_first(bundle: Bundle) -> Features:
        if raised:
            raise raised.pop(0)
        return extract(bundle)

    fails_at_first.stamp = extract.stamp
    rows = command.extract(inputs, tmp_path / "out", fails_at_first, config)
    assert [(row.status, row.reason) for row in rows] == [
        ("failed", "RuntimeError: CUDA error"),
        ("failed", "[Errno 5] Input/output error"),
        ("done", ""),
    ]
    raised.append(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        command.extract(inputs, tmp_path / "out", fails_at_first, config)
