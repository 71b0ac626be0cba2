"""The voice model: the published code's numbers under its own names, its input, its label direction, and a judge of videos."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import visavox
from visavox.detectors.published import MODELS, ModelError
from visavox.detectors.published import judge as judges
from visavox.detectors.published.fused import FusedJudge
from visavox.detectors.published.voice import judge as voice
from visavox.media import open_video, write_video
from visavox.preprocessing.pipeline import CropError
from visavox.preprocessing.voice_input import NoVoiceError, VoiceInput, heard
from visavox.weights import REGISTRY, WeightsError, loading, store

pytest.importorskip("transformers", reason="the extra `foundation`")
from voice_values import parameters, sounds  # noqa: E402

from visavox.detectors.published.voice.network import LARGE, TINY, VoiceNetwork, published_names  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
NAME = "deepfense_wavlm_nes2net"
GOLDENS = json.loads((Path(__file__).parent / "goldens.json").read_text())["fake"]


@pytest.fixture
def published(tmp_path: Path, monkeypatch) -> Path:
    """A weights folder whose file is written as the published trainer writes it, of a small network."""
    file = tmp_path / "weights" / REGISTRY[NAME].file
    file.parent.mkdir()
    torch.save({"model_state": parameters(), "epoch": 2, "best_metric": np.float64(0.01)}, file)
    monkeypatch.setenv("VISAVOX_WEIGHTS", str(file.parent))
    monkeypatch.setattr(voice, "network", partial(voice.network, size=TINY))
    store._say_unverified.cache_clear()
    return file


def test_a_published_file_gives_the_published_numbers(published: Path):
    net = voice.network(NAME)
    with torch.inference_mode():
        found = [torch.sigmoid(net(torch.from_numpy(voice.INPUT(sound))[None]).double()).item() for sound in sounds()]
    assert found == pytest.approx(GOLDENS, abs=2e-7) and len(set(GOLDENS)) == 3


def test_every_name_is_known_and_a_missing_or_strange_one_is_told():
    state, net = published_names(parameters()), VoiceNetwork(0, TINY)
    found = loading.fit(net, state, what="x")
    assert found.loaded == len(state) == 581 and not found.unread and not found.fresh
    with pytest.raises(WeightsError, match="1 missing.*grep|1 missing.*gru_rel_pos_const"):
        loading.fit(
            net,
            {name: value for name, value in state.items() if "layers.1.attention.gru_rel_pos_const" not in name},
            what="x",
        )
    with pytest.raises(WeightsError, match="581 parameters|of another shape"):
        loading.fit(net, state | {"losses.0.fc.weight": torch.zeros(3, 64)}, what="x")


def test_the_full_size_is_wavlm_large():
    with torch.device("meta"):
        net = VoiceNetwork(0, LARGE)
    count = sum(parameter.numel() for parameter in net.frontend.parameters())
    assert count == pytest.approx(316.62e6, rel=0.005)  # Chen et al. 2022, with what pre-training alone needs


def test_the_registry_says_which_class_is_fake_and_the_logit_is_turned_by_it(published: Path, monkeypatch):
    assert REGISTRY[NAME].fake_index == 0 and "1 = real (bona fide)" in REGISTRY[NAME].labels
    sound = torch.from_numpy(voice.INPUT(sounds()[0]))[None]
    with torch.inference_mode():
        net = voice.network(NAME)
        spoof, real = net.classes(sound)[0]
        assert net(sound).item() == pytest.approx((spoof - real).item())
        monkeypatch.setitem(REGISTRY, NAME, replace(REGISTRY[NAME], fake_index=1))
        assert voice.network(NAME)(sound).item() == pytest.approx((real - spoof).item())


def test_the_input_is_the_published_one():
    """`pad` of its transforms: longer sound is cut, shorter repeated by `numpy.tile`; soundfile reads int16 / 32768."""
    wanted = voice.INPUT
    assert wanted == VoiceInput(rate=16000, samples=64000)
    for sound in sounds():
        times = int(np.ceil(64000 / len(sound)))
        published = np.tile(sound.astype(np.float64) / 32768, times)[:64000].astype(np.float32)
        assert np.array_equal(wanted(sound), published)
    assert wanted(np.int16([-32768, 16384])).min() == -1 and wanted(np.int16([-32768, 16384])).max() == 0.5


def test_windows_lie_side_by_side_or_spread_and_the_last_ends_with_the_sound():
    wanted = VoiceInput(10, 40)
    assert wanted.starts(25, 8) == [0] and wanted.starts(40, 8) == [0] and wanted.starts(80, 8) == [0, 40]
    assert wanted.starts(100, 8) == [0, 30, 60] and wanted.starts(1000, 3) == [0, 480, 960]


def test_a_video_is_the_mean_of_its_windows(published: Path, tmp_path: Path, caplog):
    sound = np.concatenate([sounds()[2], np.zeros(80_000, np.int16)])  # 11.25 s, the last of three windows silent
    frames = [np.full((64, 64, 3), 80, np.uint8)] * 113
    write_video(tmp_path / "long.mkv", frames, sound, fps=10, audio_codec="flac")
    analysis = visavox.detect(tmp_path / "long.mkv", NAME, device="cpu")
    edges = [edge for part in analysis.timeline for edge in (part.start, part.end)]
    assert edges == pytest.approx([0, 4, 3.625, 7.625], abs=0.06)
    assert analysis.probability == pytest.approx(np.mean([part.probability for part in analysis.timeline]))
    net = voice.network(NAME)
    with torch.inference_mode():
        first = torch.sigmoid(net(torch.from_numpy(voice.INPUT(sound))[None])).item()
    assert analysis.timeline[0].probability == pytest.approx(first, abs=1e-5)
    assert analysis.card.checkpoint == hashlib.sha256(published.read_bytes()).hexdigest()
    assert "unverified" in caplog.text and (published.parent / f".{published.name}.first-use").exists()


def test_sound_of_another_rate_is_resampled_as_published(tmp_path: Path):
    """As librosa.load does, which the published code calls; the decoder's own filter gives other samples."""
    import librosa

    from visavox.media.confined.decoder import decoder

    child = decoder()
    rng = np.random.default_rng(2)
    for rate in (48000, 44100):
        sound = np.clip(3000 * rng.standard_normal(3 * rate), -32768, 32767).astype(np.int16)
        path = tmp_path / f"{rate}.mkv"
        frames = [np.zeros((64, 64, 3), np.uint8)] * 30
        write_video(path, frames, sound, fps=10, sample_rate=rate, audio_codec="flac")
        found, _ = heard(path, 16000, 60.0)
        theirs = librosa.resample(sound.astype(np.float32) / 32768, orig_sr=rate, target_sr=16000)
        assert len(found) == len(theirs) == 48000 and np.abs(found / 32768 - theirs).max() <= 0.51 / 32768
        with open_video(path, fps=1, sample_rate=16000) as video:
            list(video.frames())
            assert np.abs(video.audio()[:48000] / 32768 - theirs).max() > 20 / 32768
    assert decoder() is child  # a video that is closed early costs one, half a second each


def test_what_has_no_voice_says_so(published: Path, uploads: Path, tmp_path: Path):
    with pytest.raises(NoVoiceError, match="no sound"):
        visavox.detect(uploads / "silent.mp4", NAME, device="cpu")
    write_video(tmp_path / "mute.mp4", [np.zeros((64, 64, 3), np.uint8)] * 10, np.full(6400, 12, np.int16))
    with pytest.raises(NoVoiceError, match="silence"):
        visavox.detect(tmp_path / "mute.mp4", NAME, device="cpu")
    with pytest.raises(ModelError, match="no sound"):
        visavox.detect(tmp_path / "face.png", NAME, device="cpu")


def test_it_is_the_default_models_branch_voice(published: Path, uploads: Path, monkeypatch):
    monkeypatch.setenv("VISAVOX_OFFLINE", "1")
    assert judges.DEFAULT["voice"] == NAME and MODELS[NAME].reads == {"video"}
    judge = judges.open_judge("default", device="cpu")
    assert isinstance(judge, FusedJudge) and set(judge.judges) == {"voice"} and set(judge.missing) == {"face", "sync"}
    analysis = judge(uploads / "sound.mp4")
    alone = visavox.detect(uploads / "sound.mp4", NAME, device="cpu")
    assert analysis.probability == pytest.approx(alone.probability)
    assert {part.what for part in analysis.degraded} == {"face", "sync"}
    with pytest.raises(CropError, match="voice: the video has no sound"):
        judge(uploads / "silent.mp4")
