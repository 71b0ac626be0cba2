"""The speech gates: loudness as it is measured, Silero's network as the wheel computes it, stretches."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from visavox import config as configuration
from visavox.bundle import Bundle
from visavox.bundle.trim import silence, trimmed, trimming
from visavox.features import speech_net
from visavox.features.speech import STEP, NoSpeechModel, spans, speech
from visavox.synthetic.voice import articulate, speak, voice_of

RATE = 16000
installed = pytest.mark.skipif(speech_net.weights_path() is None, reason="silero-vad is not installed (extra vad)")


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """A second of music, a second of faint noise, two seconds of a synthetic voice, half a second of noise."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    music = sum(np.sin(2 * np.pi * f * time) * np.exp(-2 * (time % 0.25)) for f in (440, 554.4, 659.3))
    voice = voice_of(3)
    spoken = speak(voice, articulate(voice, 2.0, rng), rng)
    parts = [4000 * music, rng.normal(0, 8, RATE), 12000 * spoken, rng.normal(0, 8, RATE // 2)]
    return np.clip(np.concatenate(parts), -32767, 32767).astype(np.int16)


def test_the_energy_gate_is_loudness_alone(sound: np.ndarray):
    loud = speech(sound, RATE)
    assert len(loud) == -(-len(sound) // STEP) and set(loud) == {0.0, 1.0}
    assert loud[:30].mean() > 0.9 and loud[33:61].mean() == 0 and loud[-12:].mean() == 0  # music counts, noise does not
    assert not speech(np.zeros(5000, np.int16), RATE).any() and len(speech(np.zeros(0, np.int16), RATE)) == 0


def test_stretches_need_a_length_and_bridge_short_pauses():
    p = np.zeros(60)
    p[10:30], p[13:15], p[40:44], p[50:60] = 0.9, 0.1, 0.9, 0.6  # a short pause, a short word, speech to the end
    assert spans(p) == [(10, 30), (50, 60)]
    p[13:19] = 0.1  # now a pause that is long enough
    assert spans(p) == [(19, 30), (50, 60)]
    p[13:19] = 0.4  # between the two thresholds it goes on
    assert spans(p) == [(10, 30), (50, 60)] and spans(np.zeros(0)) == []


@installed
def test_silero_hears_the_voice_and_not_the_music(sound: np.ndarray):
    p = speech(sound, RATE, "silero")
    assert len(p) == -(-len(sound) // STEP) and p.dtype == np.float32 and ((p >= 0) & (p <= 1)).all()
    assert p[2:30].mean() < 0.35 < p[66:120].mean()
    with pytest.raises(ValueError, match="resample_rate=16000"):
        speech(sound, 8000, "silero")


@installed
def test_the_network_is_that_of_the_wheels_own_models(sound: np.ndarray, data_dir: Path):
    """On real speech where it is at hand: the wheel's TorchScript, and its ONNX where a runtime is installed."""
    from visavox import media

    folder = speech_net.weights_path().parent
    script = torch.jit.load(str(folder / "silero_vad.jit"))
    for name in ("real/vrt_4.mp4", "fake/linly_1.mp4", "real/grid_swiz3n.mpg"):
        with media.open_video(data_dir / "clips" / name, max_seconds=4) as video:
            list(video.frames())
            heard = video.audio()
        script.reset_states()
        theirs = script.audio_forward(torch.from_numpy(heard.astype(np.float32) / 32768)[None], RATE)[0].numpy()
        assert np.abs(speech(heard, RATE, "silero") - theirs).max() < 1e-4, name


@installed
def test_the_network_is_that_of_the_wheels_onnx(sound: np.ndarray):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(speech_net.weights_path().parent / "silero_vad.onnx"), options)
    state, context, theirs = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32), []
    padded = np.concatenate([sound, np.zeros(-len(sound) % STEP, np.int16)]).astype(np.float32) / 32768
    for step in padded.reshape(-1, STEP):
        seen = np.concatenate([context, step[None]], 1)
        p, state = session.run(None, {"input": seen, "state": state, "sr": np.array(RATE, np.int64)})
        theirs.append(p[0, 0])
        context = seen[:, -64:]
    assert np.abs(speech(sound, RATE, "silero") - theirs).max() < 1e-4


@installed
def test_trimming_by_speech_cuts_music_that_loudness_keeps(sound: np.ndarray, make_bundle: Callable[..., Bundle]):
    by_loudness, by_speech = silence(sound, RATE), silence(sound, RATE, "silero")
    assert by_loudness.leading < 0.1 and 1.5 < by_speech.leading < 3 and by_speech.trailing > 0.3
    T = len(sound) // 640
    clip = make_bundle(
        1,
        audio=sound,
        **{
            "boxes": np.tile(np.float32([10, 20, 110, 120]), (T, 1)),
            "landmarks": np.zeros((T, 5, 2), np.float32),
            "det_score": np.full(T, np.float32("nan")),
            "times": (np.arange(T) / 25).astype(np.float32),
            "track": np.zeros(0, np.uint8),
            "track_offsets": np.zeros(T + 1, np.int64),
        },
    )
    kept = trimmed(clip, "both", gate="silero")
    assert kept.times[0] == pytest.approx(by_speech.leading, abs=0.05)
    assert trimmed(clip, "both").times[0] < 0.1


def test_scores_of_another_gate_are_other_scores():
    said = {
        gate: trimming(configuration.load("tiny", ["trim_silence=leading", f"speech_gate={gate}"]))
        for gate in ("energy", "silero")
    }
    assert said == {"energy": "leading", "silero": "leading (silero)"}
    assert trimming(configuration.load("tiny", ["speech_gate=silero"])) == "none"


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    speech_net.load.cache_clear()
    original = importlib.util.find_spec
    monkeypatch.setattr(speech_net, "find_spec", lambda name: None if name == "silero_vad" else original(name))
    with pytest.raises(NoSpeechModel, match="visavox\\[vad\\]"):
        speech(np.ones(2000, np.int16), RATE, "silero")
    speech_net.load.cache_clear()
