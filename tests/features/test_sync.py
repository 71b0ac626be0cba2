"""Sync: conventions, the correlation without weights, SyncNet against the published code."""

import zlib

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from visavox.features import syncnet
from visavox.features.sync import TooShort, correlation_sync, mouth_opening, summarise, voice_envelope
from visavox.features.syncnet import FoldedSyncNet, SyncNet, mean_distances, sync_distances

MARKS = np.array([[35, 45], [77, 45], [56, 62], [42, 80], [70, 80]], np.float32)  # in crops of 112

# mdist of joonson/syncnet_python (6efbb1c, SyncNetInstance.evaluate) for `seeded_state` on `noisy_clip(26)`, vshift 3
PUBLISHED_MDIST = [68.98835, 70.87532, 72.61998, 74.58699, 72.80513, 71.00816, 68.8983]
PUBLISHED_OFFSET, PUBLISHED_CONF = -3, 2.10986


# --- what the three values mean


def test_latency_is_where_the_minimum_lies_and_conf_its_depth_below_the_median():
    curve = np.full(31, 9.0)
    curve[15 + 4] = 5.0
    sync = summarise(curve)
    assert (sync.latency, sync.conf) == (4, 4)
    assert [x.dtype for x in sync] == [np.float32] * 3


def test_flat_curve_is_no_latency():
    assert summarise(np.ones(31))[1:] == (0, 0)


def test_not_finite_is_refused():
    with pytest.raises(ValueError, match="1 values that are not finite"):
        summarise(np.array([1, np.nan, 1]))


# --- correlation


@pytest.fixture(scope="module")
def talking() -> tuple[np.ndarray, np.ndarray]:
    """A painted face whose mouth follows the voice: crops (90, 112, 112, 3) uint8 RGB, audio (57600,) int16."""
    rng = np.random.default_rng(4)
    loud = np.interp(np.arange(90), np.arange(0, 91, 3), rng.uniform(0.05, 1, 31))
    crops = np.full((90, 112, 112, 3), (200, 150, 130), np.uint8)
    for crop, opening in zip(crops, loud):
        centre, axes = (56 * 16, 80 * 16), (10 * 16, round(9 * 16 * opening))  # in sixteenths of a pixel: shift=4
        cv2.ellipse(crop, centre, axes, 0, 0, 360, (60, 15, 20), -1, cv2.LINE_AA, shift=4)
    audio = rng.normal(size=90 * 640) * np.repeat(loud, 640) ** 2 * 6000
    return crops, np.clip(audio, -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("frames", [-15, -9, -3, 0, 4, 12, 15])
def test_moving_the_sound_moves_the_latency_as_far(talking, frames):
    crops, audio = talking
    sync = correlation_sync(crops, np.repeat(MARKS[None], 90, 0), move(audio, frames))
    assert sync.latency == frames
    assert sync.mdist.shape == (31,) and sync.conf > 0.5


def test_neither_loudness_nor_brightness_nor_crop_size_matter(talking):
    crops, audio = talking
    plain = correlation_sync(crops, np.repeat(MARKS[None], 90, 0), audio)
    large = np.stack([cv2.resize(crop, (224, 224)) for crop in crops // 2])
    other = correlation_sync(large, np.repeat(MARKS[None] * 2, 90, 0), audio // 4)
    assert other.latency == plain.latency
    np.testing.assert_allclose(other.mdist, plain.mdist, atol=0.1)


def test_rate_of_the_sound_does_not_matter(talking):
    crops, audio = talking
    tripled = np.interp(np.arange(3 * len(audio)) / 3, np.arange(len(audio)), audio).astype(np.int16)
    assert correlation_sync(crops, np.repeat(MARKS[None], 90, 0), move(tripled, 5, 48000), 48000).latency == 5


@pytest.mark.parametrize("case", ["no audio", "silence", "still face", "black face", "short", "empty"])
def test_nothing_to_correlate_is_flat(talking, case):
    crops, audio = talking
    match case:
        case "no audio":
            audio = None
        case "silence":
            audio = np.zeros_like(audio)
        case "still face":
            crops = np.repeat(crops[:1], 90, 0)
        case "black face":
            crops = np.zeros_like(crops)
        case "short":
            crops, audio = crops[:31], audio[: 31 * 640]
        case "empty":
            crops, audio = crops[:0], audio[:0]
    sync = correlation_sync(crops, np.repeat(MARKS[None], len(crops), 0), audio)
    assert (sync.mdist == 1).all() and sync.latency == 0 and sync.conf == 0


def test_half_silent_clip_has_no_nan(talking):
    crops, audio = talking
    audio = np.where(np.arange(len(audio)) < 640 * 75, 0, audio).astype(np.int16)
    assert np.isfinite(correlation_sync(crops, np.repeat(MARKS[None], 90, 0), audio).mdist).all()


def test_landmarks_of_no_extent_are_survived(talking):
    assert np.isfinite(mouth_opening(talking[0][0], np.full((5, 2), 56, np.float32)))


def test_wider_mouth_is_more_open_also_when_the_head_is_tilted(talking):
    crops, _ = talking
    turn = cv2.getRotationMatrix2D((56, 56), 30, 1)
    tilted = [cv2.warpAffine(crop, turn, (112, 112), borderValue=(200, 150, 130)) for crop in crops]
    marks = MARKS @ turn[:, :2].T + turn[:, 2]
    straight = [mouth_opening(crop, MARKS) for crop in crops]
    assert np.corrcoef(straight, [mouth_opening(crop, marks) for crop in tilted])[0, 1] > 0.95
    assert min(straight) >= 0 and max(straight) <= 1


def test_envelope_hears_the_formant_band_only():
    time = np.arange(16000) / 16000
    low, mid = (voice_envelope((9000 * np.sin(2 * np.pi * f * time)).astype(np.int16), 16000, 25) for f in (120, 1200))
    assert mid.min() > 10 * low.max()


# --- SyncNet


def test_published_names_and_number_of_parameters():
    model = SyncNet()
    assert sum(p.numel() for p in model.parameters()) == 13_631_616
    names = set(model.state_dict())
    assert {"netcnnaud.19.running_var", "netfcaud.3.weight", "netcnnlip.18.bias", "netfclip.0.weight"} <= names
    assert len(names) == 102


def test_golden_distances_of_the_published_code(seeded):
    crops, audio = noisy_clip(26)
    sync = sync_distances(seeded, crops, audio, vshift=3, pad="zero")
    np.testing.assert_allclose(sync.mdist, PUBLISHED_MDIST, atol=1e-3)
    assert sync.latency == -PUBLISHED_OFFSET
    assert sync.conf == pytest.approx(PUBLISHED_CONF, abs=1e-3)


def test_folded_embeddings_are_equal(seeded):
    crops, _ = noisy_clip(7)
    lips = torch.from_numpy(crops[..., ::-1].copy()).float().permute(3, 0, 1, 2).unfold(1, 5, 1).permute(1, 0, 4, 2, 3)
    cepstra = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 1, 13, 20))).float() * 10
    folded = FoldedSyncNet(seeded)
    with torch.inference_mode():
        assert relative(folded.embed_lips(lips), seeded.embed_lips(lips)) < 1e-4
        assert relative(folded.embed_audio(cepstra), seeded.embed_audio(cepstra)) < 1e-4
    assert all(p.requires_grad for p in seeded.parameters())  # the model itself is left as it was


def test_batch_does_not_matter_and_each_crop_is_read_once(seeded):
    crops, audio = noisy_clip(10)
    folded = FoldedSyncNet(seeded)
    one, three = Counted(crops), Counted(crops)
    a = sync_distances(folded, one, audio, vshift=2, batch=1)
    b = sync_distances(folded, three, audio, vshift=2, batch=3)
    np.testing.assert_allclose(a.mdist, b.mdist, atol=1e-4)
    assert one.read == three.read == list(range(9))  # 10 - 5 windows of 5 end at frame 8


@pytest.mark.parametrize("stride", [2, 3, 5])
def test_stride_reads_every_nth_window_of_lips_and_all_sound(seeded, stride):
    crops, audio = noisy_clip(26)
    model = FoldedSyncNet(seeded)
    with torch.inference_mode():
        lips = torch.cat([model.embed_lips(x) for x in syncnet._lip_windows(crops, 21, 4)])
        voice = model.embed_audio(syncnet._audio_windows(audio, 21))
    expected = [
        np.mean([float((lips[i] - voice[i + k - 3]).norm()) for i in range(0, 21, stride) if 0 <= i + k - 3 < 21])
        for k in range(7)
    ]
    sync = sync_distances(model, crops, audio, vshift=3, stride=stride)
    np.testing.assert_allclose(sync.mdist, expected, rtol=1e-4)


def test_stride_beyond_a_window_is_refused(seeded):
    with pytest.raises(ValueError, match="1 to 5"):
        sync_distances(seeded, *noisy_clip(26), vshift=3, stride=6)


def test_bfloat16_embeds_within_a_hundredth(seeded):
    crops, audio = noisy_clip(10)
    half, full = FoldedSyncNet(seeded, torch.bfloat16), FoldedSyncNet(seeded)
    with torch.inference_mode():
        (windows,) = syncnet._lip_windows(crops, 2, 4)
        cepstra = syncnet._audio_windows(audio, 2)
        assert relative(half.embed_lips(windows).float(), full.embed_lips(windows)) < 0.02
        assert relative(half.embed_audio(cepstra).float(), full.embed_audio(cepstra)) < 0.02
    assert half.netcnnlip[0].weight.dtype is torch.bfloat16


def test_load_is_strict(seeded):
    state = seeded.state_dict()
    assert not syncnet.load(state).training
    del state["netfclip.3.bias"]
    with pytest.raises(RuntimeError, match="netfclip.3.bias"):
        syncnet.load(state)


def test_load_takes_files_older_than_batch_counters(seeded):
    state = {name: value for name, value in seeded.state_dict().items() if "num_batches_tracked" not in name}
    assert len(state) == 88
    syncnet.load(state)


@pytest.mark.parametrize("pad", ["valid", "zero"])
@pytest.mark.parametrize("frames", [-6, 0, 5])
def test_planted_shift_is_found(frames, pad):
    rng = np.random.default_rng(8)
    levels = rng.integers(20, 200, 60)
    crops = np.broadcast_to(levels[:, None, None, None], (60, 224, 224, 3)).astype(np.uint8)
    carrier = (-1.0) ** np.arange(60 * 640)
    audio = (carrier * 100 * np.repeat(np.exp(levels / 40), 640)).astype(np.int16)
    assert sync_distances(Levels(), crops, move(audio, frames), vshift=8, pad=pad).latency == frames


def test_zero_padding_carries_clip_length_and_valid_does_not():
    curves = {}
    for pad in ("valid", "zero"):
        curves[pad] = [
            mean_distances(torch.full((n, 8), 3.0), torch.full((n, 8), 4.0), 15, pad).numpy() for n in (20, 200)
        ]
    np.testing.assert_allclose(*curves["valid"], rtol=1e-6)
    assert np.abs(np.subtract(*curves["zero"])).max() > 1
    np.testing.assert_allclose(curves["zero"][0][15], curves["valid"][0][15])  # shift 0 has every pair


def test_distance_is_torchs_pairwise_distance():
    rng = np.random.default_rng(0)
    lips, voice = (torch.from_numpy(rng.normal(size=(12, 5))) for _ in range(2))
    expected = np.sqrt(((lips - voice + 1e-6) ** 2).sum(1)).mean()
    torch.testing.assert_close(mean_distances(lips, voice, 2, "zero")[2], expected)
    late = np.sqrt(((lips[:-2] - voice[2:] + 1e-6) ** 2).sum(1)).mean()  # lips i, sound i + 2
    torch.testing.assert_close(mean_distances(lips, voice, 2, "valid")[4], late)


@pytest.mark.parametrize(("pad", "frames"), [("valid", 20), ("zero", 5)])
def test_too_short_says_what_is_needed(pad, frames):
    crops = np.zeros((frames, 224, 224, 3), np.uint8)
    with pytest.raises(TooShort, match=f"at least {frames + 1} frames and {(frames + 1) * 640} samples"):
        sync_distances(Levels(), crops, np.zeros(frames * 640, np.int16), pad=pad)


def test_shortest_clip_and_crops_of_another_size():
    sync = sync_distances(Levels(), np.full((21, 64, 64, 3), 99, np.uint8), np.full(21 * 640, 50, np.int16))
    assert sync.mdist.shape == (31,) and np.isfinite(sync.mdist).all()


def test_unknown_pad_is_refused():
    with pytest.raises(ValueError, match="as published"):
        sync_distances(Levels(), [], np.zeros(0, np.int16), pad="same")


# --- material


class Levels(nn.Module):
    """Embeds a window by the level in its middle frame: grey level of the picture, loudness of the sound."""

    def __init__(self):
        super().__init__()
        self.per_level = nn.Parameter(torch.tensor(2 / 40))

    def embed_lips(self, frames):
        return frames[:, :, 2].mean((1, 2, 3))[:, None] * self.per_level

    def embed_audio(self, cepstra):
        return cepstra[:, 0, 0, 8:12].mean(1)[:, None] - 15


class Counted(list):
    """A sequence that notes which items are read."""

    def __init__(self, items):
        super().__init__(items)
        self.read = []

    def __getitem__(self, i):
        self.read.append(i)
        return super().__getitem__(i)


@pytest.fixture(scope="module")
def seeded() -> SyncNet:
    return syncnet.load(seeded_state())


def seeded_state() -> dict[str, torch.Tensor]:
    """Every parameter and statistic random, each from a generator seeded by its name, at scales that keep time alive."""
    state = SyncNet().state_dict()
    for name, value in state.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        noise = torch.from_numpy(rng.normal(size=tuple(value.shape))).to(value.dtype)
        if value.ndim > 1:
            noise -= noise.flatten(1).mean(1).view(-1, *[1] * (value.ndim - 1))  # no answer to what never changes
            state[name] = noise * (2 / value[0].numel()) ** 0.5
        elif name.endswith("running_var"):
            state[name] = 0.5 + noise.abs()
        elif name.endswith("weight"):
            state[name] = 1 + 0.2 * noise
        elif value.ndim:
            state[name] = 0.2 * noise
    state["netcnnlip.0.weight"] /= 64  # pixels reach 255,
    state["netcnnaud.0.weight"] /= 4  # cepstra about 20
    return state


def noisy_clip(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Coarse colour noise and sound of changing loudness: crops (T, 224, 224, 3) uint8 RGB, audio (640 T,) int16."""
    rng = np.random.default_rng(frames)
    coarse = rng.integers(0, 256, (frames, 7, 7, 3)).astype(np.uint8)
    crops = coarse.repeat(32, axis=1).repeat(32, axis=2)
    audio = rng.normal(size=frames * 640) * np.repeat(rng.uniform(10, 5000, frames * 4), 160)
    return crops, np.clip(audio, -32768, 32767).astype(np.int16)


def move(audio: np.ndarray, frames: int, rate: int = 16000) -> np.ndarray:
    """The same sound later by whole video frames, zeros where there is none; of equal length."""
    samples = abs(frames) * rate // 25
    silence = np.zeros(samples, np.int16)
    return np.r_[silence, audio][: len(audio)] if frames > 0 else np.r_[audio[samples:], silence]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())
