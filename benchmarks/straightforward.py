"""Preprocessing and scoring as one would write them down from public building blocks: the yardstick of `bench.py`.

Frames by MoviePy into a list, sound by ffmpeg into a wav file; RetinaFace on every fifth frame, one at a time, with priors,
decoding and suppression as in biubug6/Pytorch_Retinaface's detect.py; SyncNet window by window in batches of 20, as in
joonson/syncnet_python's SyncNetInstance.py; MFCC frame by frame; mel by librosa; TimeSformer on nn.MultiheadAttention, as in
mmaction2. Everything in float32, networks as they were trained.
"""

import copy
import subprocess
import tempfile
from collections.abc import Mapping
from itertools import product
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from visavox import faces
from visavox.config import SYNC_FPS, Config
from visavox.detectors.timesformer import network as network_module
from visavox.detectors.timesformer.clip import Clip
from visavox.faces.retinaface import RetinaFace
from visavox.faces.retinaface.network import Predictions
from visavox.features import audio as visavox_audio
from visavox.features.syncnet import SyncNet
from visavox.progress import Stopwatch

RATE = 16000
BATCH = 20  # windows per call, SyncNetInstance.py's default
STEP = 5  # frames from one detection to the next


class Straightforward:
    """video -> logits of several detectors.

    retinaface: None leaves detection out. detectors: name -> detector, `with_multihead_attention`.
    """

    def __init__(
        self,
        retinaface: RetinaFace | None,
        max_size: int,
        syncnet: SyncNet,
        detectors: Mapping[str, nn.Module],
        config: Config,
    ):
        self.retinaface, self.max_size, self.syncnet = retinaface, max_size, syncnet
        self.detectors, self.config = detectors, config

    @torch.no_grad()
    def __call__(self, path: Path, box: np.ndarray, watch: Stopwatch) -> dict[str, float]:
        """Logits by the detectors' names; seconds are booked on `watch`.

        box: (4,) the face to cut out on every frame; what RetinaFace finds is thrown away, for its weights may be random.
        """
        config = self.config
        with watch("decode"):
            frames, sound = read(path, config.max_clip_len)
        with watch("detect"):
            if self.retinaface is not None:
                for frame in frames[::STEP]:
                    detect(self.retinaface, frame, self.max_size, config.face_threshold)
        with watch("cut"):
            boxes = np.tile(box, (len(frames), 1))
            crops = faces.cut(np.stack(frames), boxes, config.frame_size, config.face_margin)  # (T, S, S, 3)
        with watch("mel"):
            mel = mel_3cs(sound, config.freq_num)
        with watch("sync"):
            mdist = sync(self.syncnet, crops, sound, config.vshift)
        latency = np.concatenate([mdist, [np.argmin(mdist) - config.vshift, np.median(mdist) - np.min(mdist)]])
        kept = ((np.arange(config.bundle_faces) + 0.5) * len(crops) / config.bundle_faces).astype(int)
        logits = {}
        for name, detector in self.detectors.items():
            with watch(f"classify {name}"):
                clip = clip_of(crops[kept], mel, latency, detector.config)
                logits[name] = float(detector(Clip(*(part.to(device_of(detector)) for part in clip))))
        return logits


def read(path: Path, seconds: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames (H, W, 3) uint8 RGB at 25 fps in a list, sound (N,) int16 at 16 kHz by way of a wav file."""
    import imageio_ffmpeg
    from moviepy import VideoFileClip
    from scipy.io import wavfile

    with VideoFileClip(str(path), audio=False) as clip:
        frames = list(clip.subclipped(0, min(seconds, clip.duration)).iter_frames(fps=SYNC_FPS))
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "sound.wav"
        words = [
            "-y",
            "-loglevel",
            "error",
            "-i",
            str(path),
            "-ac",
            "1",
            "-ar",
            str(RATE),
            "-acodec",
            "pcm_s16le",
            str(wav),
        ]
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *words], check=True)
        sound = wavfile.read(wav)[1]
    return frames, sound[: round(len(frames) * RATE / SYNC_FPS)]


def detect(network: RetinaFace, frame: np.ndarray, max_size: int, threshold: float) -> list[np.ndarray]:
    """Boxes (4,) of one frame, its longer side scaled to max_size."""
    scale = max_size / max(frame.shape[:2])
    image = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    image = image[..., ::-1] - (104, 117, 123)
    height, width = image.shape[:2]
    batch = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)).unsqueeze(0)
    predictions = Predictions(*(values.cpu() for values in network(batch.to(device_of(network)))))
    anchors = priors(height, width)
    offsets = predictions.boxes[0]
    centres = anchors[:, :2] + offsets[:, :2] * 0.1 * anchors[:, 2:]
    sizes = anchors[:, 2:] * torch.exp(offsets[:, 2:] * 0.2)
    boxes = torch.cat([centres - sizes / 2, centres + sizes / 2], 1).numpy() * (width, height, width, height) / scale
    scores = torch.softmax(predictions.logits[0], dim=-1)[:, 1].numpy()
    likely = np.where(scores > threshold)[0]
    order = likely[scores[likely].argsort()[::-1]][:5000]
    return suppress(boxes[order], 0.4)[:750]


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def priors(height: int, width: int) -> Tensor:
    """Anchors (P, 4), as shares of the picture, one after the other."""
    anchors: list[float] = []
    for sizes, step in zip([[16, 32], [64, 128], [256, 512]], [8, 16, 32]):
        for i, j in product(range(ceil(height / step)), range(ceil(width / step))):
            for size in sizes:
                anchors += [(j + 0.5) * step / width, (i + 0.5) * step / height, size / width, size / height]
    return torch.tensor(anchors).view(-1, 4)


def suppress(boxes: np.ndarray, limit: float) -> list[np.ndarray]:
    """Non-maximum suppression of boxes (N, 4) sorted by score."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    order, kept = np.arange(len(boxes)), []
    while len(order):
        best, others = order[0], order[1:]
        kept.append(boxes[best])
        low, high = np.maximum(boxes[best, :2], boxes[others, :2]), np.minimum(boxes[best, 2:], boxes[others, 2:])
        common = np.maximum(0, high - low + 1).prod(1)
        order = others[common / (areas[best] + areas[others] - common) <= limit]
    return kept


def sync(network: SyncNet, crops: np.ndarray, sound: np.ndarray, vshift: int) -> np.ndarray:
    """Mean distance at each shift, (V,), over pairs inside the clip: crops (T, S, S, 3) uint8 RGB, sound (N,) int16."""
    pictures = torch.from_numpy(crops[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32))  # (T, 3, S, S) BGR
    pictures = nn.functional.interpolate(pictures, (224, 224), mode="bilinear", antialias=True)
    pictures = pictures.permute(1, 0, 2, 3)[None]  # (1, 3, T, 224, 224)
    cepstra = torch.from_numpy(mfcc(sound).T[None, None].astype(np.float32))  # (1, 1, 13, M)
    last = min(len(crops), len(sound) // 640) - 5
    lips, voice = [], []
    for first in range(0, last, BATCH):
        windows = range(first, min(last, first + BATCH))
        seen = torch.cat([pictures[:, :, v : v + 5] for v in windows])
        heard = torch.cat([cepstra[..., 4 * v : 4 * v + 20] for v in windows])
        lips.append(network.embed_lips(seen.to(device_of(network))).cpu())
        voice.append(network.embed_audio(heard.to(device_of(network))).cpu())
    lips, voice = torch.cat(lips), torch.cat(voice)
    distances: list[list[float]] = [[] for _ in range(2 * vshift + 1)]
    for i in range(last):
        for k in range(2 * vshift + 1):
            if 0 <= i + k - vshift < last:
                distance = nn.functional.pairwise_distance(lips[i : i + 1], voice[i + k - vshift : i + k - vshift + 1])
                distances[k].append(float(distance))
    return np.array([np.mean(values) for values in distances])


def mfcc(sound: np.ndarray) -> np.ndarray:
    """Cepstra (M, 13) with the defaults of python_speech_features, which is used where it is installed."""
    try:
        from python_speech_features import mfcc as published
    except ImportError:
        return np.stack([visavox_audio.mfcc(piece, RATE)[:, -1] for piece in _pieces(sound)])
    return published(sound, RATE)


def _pieces(sound: np.ndarray) -> list[np.ndarray]:
    """For each step the sound of its 25 ms and the 10 ms before, which pre-emphasis reaches into."""
    count = 1 + max(0, -(-(len(sound) - 400) // 160))
    return [sound[max(0, 160 * m - 160) : 160 * m + 400] for m in range(count)]


def mel_3cs(sound: np.ndarray, bins: int) -> np.ndarray:
    """Log-mel, its first and its second derivative, (3, F, M) float16."""
    import librosa

    spectrum = librosa.feature.melspectrogram(
        y=sound / np.float32(32768), sr=RATE, n_fft=2048, hop_length=160, n_mels=bins, fmax=8000
    )
    decibels = np.maximum(librosa.power_to_db(spectrum, ref=1.0, top_db=None), -80)
    deltas = [librosa.feature.delta(decibels, order=order) for order in (1, 2)]
    return np.stack([decibels, *deltas]).astype(np.float16)


def clip_of(kept: np.ndarray, mel: np.ndarray, latency: np.ndarray, config: Config) -> Clip:
    """What the detector sees: frame_num faces, as many mel images, the distances; a batch of one."""
    n, size = config.frame_num, config.frame_size
    chosen = [(i * len(kept) // n + (i + 1) * len(kept) // n) // 2 for i in range(n)]
    frames = (kept[chosen].astype(np.float32) / 127.5 - 1).transpose(3, 0, 1, 2)  # (3, n, S, S)
    images = visavox_audio.mel_images(mel, n, size)
    frames = torch.from_numpy(np.concatenate([frames, images], axis=1)).float()
    return Clip(frames[None], torch.from_numpy(latency).float()[None])


def with_multihead_attention(detector: nn.Module) -> nn.Module:
    """A copy of a detector whose attentions are nn.MultiheadAttention modules with the same weights."""
    detector = copy.deepcopy(detector).eval()
    for parent in list(detector.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, network_module.Attention):
                setattr(parent, name, _Multihead(module))
    return detector


class _Multihead(nn.Module):
    def __init__(self, attention: "network_module.Attention"):
        super().__init__()
        dims = attention.out_proj.in_features
        self.attention = nn.MultiheadAttention(dims, attention.heads, batch_first=True)
        self.attention.load_state_dict(attention.state_dict())
        self.attention.eval()

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """All of it, whatever is needed of it."""
        return self.attention(x, x, x)[0][:, :queries]
