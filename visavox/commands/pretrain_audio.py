"""Train the audio branch of `fiveway` on ASVspoof 2019 LA: sound alone, by its protocols.

    visavox pretrain-audio --root ASVspoof2019/LA --output audio.pth
    visavox train --config fiveway --code-version v1 detector.audio_weights=audio.pth

Utterances of the training protocol teach, those of the dev protocol choose the epoch by their equal error rate; the eval
protocol, with attacks that neither knows, is scored where it is there. Settings `detector.audio_*` are those of --config.
Exit codes: 0 written; 2 wrong arguments or data; 4 another run writes to OUTPUT; 5 the disk is full; 130 interrupted; 143
terminated, and OUTPUT, where it is there, then holds the best epoch so far.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavox import config as configuration
from visavox import runs
from visavox.files import replacing
from visavox.logs import complain, say

if TYPE_CHECKING:
    import numpy as np

    from visavox.config import FiveWayConfig
    from visavox.corpora.clip import Clip
    from visavox.detectors.fiveway.audio import CepstraNet

log = logging.getLogger(__name__)

RATE = 16000


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    from visavox.logs import set_up_logging

    set_up_logging()
    try:
        settings = configuration.load(arguments.config, arguments.overrides).detector
        if not isinstance(settings, configuration.FiveWayConfig):
            raise ValueError(f"--config {arguments.config}: a configuration of {settings.name}, wanted is fiveway")
        with runs.holding(arguments.output):
            metrics = pretrain(
                arguments.root,
                arguments.output,
                settings,
                epochs=arguments.epochs,
                batch=arguments.batch,
                lr=arguments.lr,
                most=arguments.most,
                seed=arguments.seed,
            )
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox pretrain-audio", error)
        return runs.exit_code(error)
    say(json.dumps(metrics, indent=2))
    return 0


def pretrain(
    root: Path,
    output: Path,
    settings: FiveWayConfig,
    *,
    epochs: int = 10,
    batch: int = 32,
    lr: float = 1e-4,
    most: int | None = None,
    seed: int = 100,
) -> dict[str, Any]:
    """Write the weights of the best epoch; return equal error rates and AUC of dev and eval.

    Args:
        most: utterances of each class and part at most, drawn by `seed`; the seed took 2000 and 1000.

    Raises:
        SplitError, ValueError: the protocols, or utterances they list, are not there.
    """
    import numpy as np
    import torch

    from visavox.corpora import asvspoof2019
    from visavox.corpora.disk import Disk
    from visavox.detectors.fiveway.audio import CepstraNet

    clips = asvspoof2019.read(Disk(root, None, asvspoof2019.SUFFIXES)).clips
    parts = {
        split: _drawn([c for c in clips if c.split == split], root, most, seed) for split in ("train", "val", "test")
    }
    for split in ("train", "val"):
        if len({clip.label for clip in parts[split]}) < 2:
            raise ValueError(f"{root}: no bona fide and spoofed utterances for {split} on the disk")
    torch.manual_seed(seed)
    net = CepstraNet(settings.audio_width)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-4)
    rng = np.random.default_rng(seed)
    best: dict[str, Any] = {"val_eer": float("inf")}
    for epoch in range(epochs):
        loss = _epoch(net, optimiser, parts["train"], root, settings, batch, rng)
        found = _measure(net, parts["val"], root, settings, batch)
        log.info(
            "epoch %d of %d: loss %.4f, dev EER %.4f, AUC %.4f", epoch + 1, epochs, loss, found["eer"], found["auc"]
        )
        if found["eer"] < best["val_eer"]:
            best = {"epoch": epoch + 1, "val_eer": found["eer"], "val_auc": found["auc"]}
            with replacing(output) as beside:
                torch.save(net.state_dict(), beside)
    if len({clip.label for clip in parts["test"]}) == 2:
        net.load_state_dict(torch.load(output, weights_only=True))
        found = _measure(net, parts["test"], root, settings, batch)
        best |= {"test_eer": found["eer"], "test_auc": found["auc"]}
    return best | {"clips": {split: len(some) for split, some in parts.items()}, "weights": str(output)}


def _drawn(clips: Sequence[Clip], root: Path, most: int | None, seed: int) -> list[Clip]:
    """Utterances that are on the disk, at most so many of each class."""
    import numpy as np

    there = [clip for clip in clips if (root / clip.filename).is_file()]
    if most is None:
        return there
    rng = np.random.default_rng(seed)
    chosen = []
    for label in (0, 1):
        same = [clip for clip in there if clip.label == label]
        chosen += [same[i] for i in sorted(rng.permutation(len(same))[:most])]
    return chosen


def _epoch(
    net: CepstraNet,
    optimiser: Any,
    clips: Sequence[Clip],
    root: Path,
    settings: FiveWayConfig,
    batch: int,
    rng: np.random.Generator,
) -> float:
    """Go through the utterances once, both classes equally often; return the mean loss."""
    import numpy as np
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    labels = np.array([clip.label for clip in clips])
    share = np.where(labels == 1, 0.5 / (labels == 1).sum(), 0.5 / (labels == 0).sum())
    order = rng.choice(len(clips), len(clips), p=share)
    net.train()
    losses = []
    for some in np.array_split(order, max(1, len(order) // batch)):
        cepstra = torch.stack([torch.from_numpy(_cepstra(root / clips[i].filename, settings, rng)) for i in some])
        loss = binary_cross_entropy_with_logits(net(cepstra[:, None]), torch.from_numpy(labels[some]).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _measure(
    net: CepstraNet, clips: Sequence[Clip], root: Path, settings: FiveWayConfig, batch: int
) -> dict[str, float]:
    import numpy as np
    import torch

    from visavox.evaluation.metrics import Ranked

    net.eval()
    scores: list[float] = []
    with torch.inference_mode():
        for first in range(0, len(clips), batch):
            some = clips[first : first + batch]
            cepstra = torch.stack([torch.from_numpy(_cepstra(root / clip.filename, settings)) for clip in some])
            scores += torch.sigmoid(net(cepstra[:, None]).double()).tolist()
    found = Ranked(np.array([clip.label for clip in clips]), np.array(scores)).metrics(np.ones((1, len(clips))), 0.5)
    return {name: float(value[0]) for name, value in found.items()}


def _cepstra(path: Path, settings: FiveWayConfig, rng: np.random.Generator | None = None) -> np.ndarray:
    """What the branch reads of a file: (C, audio_steps) float32."""
    import numpy as np
    import soundfile

    from visavox.detectors.fiveway.audio import fit_length, standardised
    from visavox.features.cqcc import RECIPES, cqcc

    audio, rate = soundfile.read(path, dtype="int16")
    if rate != RATE or audio.ndim != 1:
        raise ValueError(
            f"{path}: {rate} Hz, {audio.ndim} channel axes; utterances of ASVspoof 2019 are {RATE} Hz mono"
        )
    found = cqcc(audio, rate, RECIPES[settings.audio_recipe])
    found = standardised(found) if settings.audio_standardise else found
    return np.ascontiguousarray(fit_length(found, settings.audio_steps, settings.audio_pad, rng))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox pretrain-audio", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="the folder LA as downloaded")
    parser.add_argument("--output", type=Path, required=True, help="weights to write, for detector.audio_weights")
    parser.add_argument(
        "--config", default="fiveway", help="configuration whose detector.audio_* hold (default fiveway)"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--most", type=int, help="utterances of each class and part at most")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the configuration's")
    return parser.parse_intermixed_args(argv)


if __name__ == "__main__":
    sys.exit(main())
