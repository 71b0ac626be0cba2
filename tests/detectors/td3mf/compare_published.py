"""Run the published networks beside ours on equal random parameters, and write goldens.json.

    python tests/detectors/td3mf/compare_published.py DIR [--write]

DIR holds checkouts of the published code: 2D3MF (aiden200/2D3MF, with its src/fairseq), MARLIN (ControlNet/MARLIN),
EfficientFace (zengqunzhao/EfficientFace), EAT (cwx-worst-one/EAT), emotion2vec (ddlBoJack/emotion2vec), speechbrain
(speechbrain/speechbrain) and torchaudio_kaldi.py (pytorch/audio, src/torchaudio/compliance/kaldi.py). omegaconf has to be
importable. Modules that the published files import for other purposes (reading video, training) are replaced by empty ones.
"""

import argparse
import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

from td3mf_values import randomise, summary  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upstream", type=Path)
    parser.add_argument("--write", action="store_true", help="write goldens.json beside this file")
    parser.add_argument("--only", nargs="*", default=list(COMPARISONS), choices=list(COMPARISONS))
    words = parser.parse_args()
    torch.set_num_threads(2)
    goldens = {}
    for name in words.only:
        with torch.no_grad():
            found = COMPARISONS[name](words.upstream)
        for case, (theirs, ours) in found.items():
            print(f"{case:60} max |delta| {(theirs - ours).abs().max():.2e}   of |x| up to {theirs.abs().max():.2f}")
            goldens[case] = summary(theirs)
    if words.write:
        path = HERE / "goldens.json"
        held = json.loads(path.read_text()) if path.exists() else {"recipe": "", "values": {}}
        held["values"] |= goldens
        held["recipe"] = RECIPE
        path.write_text(json.dumps(held, indent=1) + "\n")


RECIPE = (
    "Outputs of the published networks (aiden200/2D3MF d4fd8e8, ControlNet/MARLIN c9d5698, zengqunzhao/EfficientFace "
    "8d19537, cwx-worst-one/EAT 06c1c34, ddlBoJack/emotion2vec a0e606c, speechbrain/speechbrain 9c826ef, pytorch/audio "
    "2326b75) in eval mode, each parameter and buffer given by td3mf_values.randomise, each input by td3mf_values.drawn; per case "
    "td3mf_values.summary: mean, deviation, five values. Written by compare_published.py --write."
)


def fusion(upstream: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """The fusion network: 6 types x {mf, lf} x 5 audio backbones, then the probes and other settings."""
    from fusion_cases import FUSION_CASES, fusion_inputs, our_fusion

    classifier = published_2d3mf(upstream)
    found = {}
    for case in FUSION_CASES:
        theirs = classifier.TD3MF(
            num_classes=case.classes,
            backbone="marlin_vit_small_ytf",
            finetune=False,
            task="binary" if case.classes == 1 else "multiclass",
            num_heads=case.heads,
            temporal_axis=10,
            audio_pe=case.encoding,
            fusion=case.fusion,
            hidden_layers=case.hidden,
            lp_only=case.probe == "video",
            audio_only=case.probe == "audio",
            audio_backbone=case.audio,
            middle_fusion_type=case.fusion_type,
        )
        ours = our_fusion(case)
        if case.probe == "none":  # the published width, 2 * hidden, cannot run (see load_published)
            theirs.classifier_1 = nn.Sequential(nn.Linear(ours.fused_width, case.classes))
        if case.probe == "audio" and case.audio == "eat":  # published for 128 steps, where 512 arrive
            theirs.audio_only_fc = nn.Linear(512 * 768, case.classes)
        randomise(theirs)
        from visavox.detectors.td3mf.network import load_published

        report = load_published(ours, theirs.state_dict())
        assert not report.fresh
        theirs.task = "none"  # so that forward returns logits; with "binary" it applies the sigmoid
        found[case.name] = theirs(*fusion_inputs(case)), ours.eval()(*fusion_inputs(case))
    return found


def published_2d3mf(upstream: Path) -> types.ModuleType:
    """TD3MF.classifier, with what it imports for other purposes replaced."""
    sys.path[:0] = [str(upstream / "2D3MF")]
    for name in (
        "TD3MF.extract_pretrained_features",
        "moviepy",
        "moviepy.editor",
        "util",
        "util.face_sdk",
        "util.face_sdk.face_crop",
        "ffmpeg",
        "marlin_pytorch",
    ):
        sys.modules[name] = MagicMock()
    config = types.ModuleType("marlin_pytorch.config")
    config.resolve_config = lambda name: types.SimpleNamespace(encoder_embed_dim=384)
    sys.modules["marlin_pytorch.config"] = config
    return importlib.import_module("TD3MF.classifier")


COMPARISONS = {"fusion": fusion}

if __name__ == "__main__":
    main()
