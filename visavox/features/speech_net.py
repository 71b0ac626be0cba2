"""Silero's network, which hears speech (`visavox.features.speech` asks it).

The network is that of silero-vad 6 (MIT). Its weights are read as plain numbers from a file of the installed package, which is
not imported: `silero_vad_16k_op15.onnx`, whose numbers are those of its other ONNX files and of its TorchScript. The
`silero_vad_16k.safetensors` beside them holds other weights and gives probabilities that differ by up to 0.5.

N samples at 16 kHz · n steps of 512 samples
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from visavox.features.speech import STEP, NoSpeechModel

CONTEXT = 64
"""Samples of the step before that the network sees as well."""
WEIGHTS = "data/silero_vad_16k_op15.onnx"
NAMES = {
    "stft.forward_basis_buffer": "stft_conv.weight",
    **{f"encoder.{i}.reparam_conv.{part}": f"conv{i + 1}.{part}" for i in range(4) for part in ("weight", "bias")},
    **{f"decoder.rnn.{part}": f"lstm_cell.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    "decoder.decoder.2.weight": "final_conv.weight",
    "decoder.decoder.2.bias": "final_conv.bias",
}
"""Its names below `model.` -> ours."""


def probabilities(sound: np.ndarray) -> np.ndarray:
    """Return P(speech) of each step of sound (N,) int16 at 16 kHz, N > 0: (n,) float32.

    Raises:
        NoSpeechModel: as `load`.
    """
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        return load()(torch.from_numpy(sound.astype(np.float32) / 32768)).numpy()


class SpeechNet(nn.Module):
    """Silero's network for 16 kHz: magnitudes of a short spectrum, four convolutions, a recurrent cell, a probability."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, sound: Tensor) -> Tensor:
        """Sound (N,) float32 in [-1, 1] -> P(speech) (n,) of steps of 512 samples."""
        sound = pad(sound, (CONTEXT, -len(sound) % STEP))
        steps = sound.unfold(0, STEP + CONTEXT, STEP)  # (n, 576)
        waves = pad(steps[:, None], (0, 64), mode="reflect")  # (n, 1, 640)
        spectrum = self.stft_conv(waves)  # (n, 258, 4): 129 real parts, then 129 imaginary ones
        x = torch.sqrt(spectrum[:, :129] ** 2 + spectrum[:, 129:] ** 2)
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = torch.relu(layer(x))  # (n, 128, 1) at last
        state = None
        hidden = []
        for step in x.squeeze(-1)[:, None]:  # (1, 128)
            state = self.lstm_cell(step, state)
            hidden.append(state[0])
        heard = torch.relu(torch.cat(hidden))[..., None]  # (n, 128, 1)
        return torch.sigmoid(self.final_conv(heard)).flatten()


@cache
def load() -> SpeechNet:
    """Return the network with the weights of the installed package, in eval mode on the CPU.

    Raises:
        NoSpeechModel: the package, or onnx, is not installed, or it holds no such file.
    """
    path = weights_path()
    if path is None or find_spec("onnx") is None:
        raise NoSpeechModel(
            "speech_gate=silero needs the weights of silero-vad; pip install 'visavox[vad]', or speech_gate=energy"
        )
    import onnx
    from onnx import numpy_helper

    found = {each.name.removeprefix("model."): each for each in onnx.load(path).graph.initializer}
    missing = [name for name in NAMES if name not in found]
    if missing:
        raise NoSpeechModel(
            f"{path} lacks {', '.join(missing)}; pip install 'silero-vad>=6.2,<7', or speech_gate=energy"
        )
    network = SpeechNet()
    state = {ours: torch.from_numpy(numpy_helper.to_array(found[name]).copy()) for name, ours in NAMES.items()}
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def weights_path() -> Path | None:
    """Return where the installed package keeps the weights; None where it is not installed. The package is not imported."""
    spec = find_spec("silero_vad")
    places = (Path(folder) / WEIGHTS for folder in (spec.submodule_search_locations or [])) if spec else ()
    return next((path for path in places if path.is_file()), None)
