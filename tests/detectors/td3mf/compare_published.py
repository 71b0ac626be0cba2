"""Run the published networks beside ours on equal random parameters, and write goldens.json.

    python tests/detectors/td3mf/compare_published.py DIR [--write]

DIR holds checkouts of the published code: 2D3MF (aiden200/2D3MF, with its src/fairseq), MARLIN (ControlNet/MARLIN),
EfficientFace (zengqunzhao/EfficientFace), EAT (cwx-worst-one/EAT), emotion2vec (ddlBoJack/emotion2vec), speechbrain
(speechbrain/speechbrain) and torchaudio_kaldi.py (torchaudio/compliance/kaldi.py of the wheel 2.11.0). omegaconf has to be
importable. Modules that the published files import for other purposes (reading video, training) are replaced by empty ones.
"""

import argparse
import ast
import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

from td3mf_values import drawn, randomise, summary  # noqa: E402


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
    "8d19537, cwx-worst-one/EAT 06c1c34, ddlBoJack/emotion2vec a0e606c, speechbrain/speechbrain 9c826ef, torchaudio "
    "2.11.0) in eval mode, each parameter and buffer given by td3mf_values.randomise, each input by td3mf_values.drawn; per "
    "case td3mf_values.summary: mean, deviation, five values. Written by compare_published.py --write."
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
    config.resolve_config = lambda name: types.SimpleNamespace(encoder_embed_dim=24 if "tiny" in name else 384)
    sys.modules["marlin_pytorch.config"] = config
    return importlib.import_module("TD3MF.classifier")


def finetuned(upstream: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """The fusion network with a MARLIN encoder that is trained along: frames to logits."""
    from fusion_cases import finetuned_inputs, our_finetuned

    from visavox.detectors.td3mf.backbones import marlin
    from visavox.detectors.td3mf.network import load_published

    classifier = published_2d3mf(upstream)
    encoder = published_marlin(upstream, marlin.SIZES["marlin_vit_tiny"])
    classifier.Marlin.from_online = lambda name: types.SimpleNamespace(encoder=encoder)
    theirs = classifier.TD3MF(
        1, "marlin_vit_tiny", True, temporal_axis=7, fusion="lf", hidden_layers=8, audio_backbone="resnet"
    )
    theirs.task = "none"
    randomise(theirs)
    ours = our_finetuned()
    load_published(ours, theirs.state_dict())
    inputs = finetuned_inputs()
    return {"finetune": (theirs(*inputs), ours.eval()(*inputs))}


def marlin_encoders(upstream: Path) -> dict[str, tuple[Tensor, Tensor]]:
    from visavox.detectors.td3mf.backbones import marlin

    found = {}
    for name in ("marlin_vit_small_ytf", "marlin_vit_base_ytf", "marlin_vit_tiny"):
        size = marlin.SIZES[name]
        theirs, ours = published_marlin(upstream, size), marlin.MarlinEncoder(size)
        assert torch.allclose(
            theirs.pos_embedding.emb, ours.pos_embedding.emb, atol=2e-4
        )  # an ulp of the largest angle
        carry(theirs, ours)
        clips = drawn("clips", 1, 3, 16, size.image, size.image)
        found[name] = theirs.extract_features(clips, seq_mean_pool=True), ours.eval()(clips)
    return found


def efficientface(upstream: Path) -> dict[str, tuple[Tensor, Tensor]]:
    from visavox.detectors.td3mf.backbones.efficientface import SIZES, EfficientFaceNetwork

    namespace("models", upstream / "EfficientFace/models")
    theirs = importlib.import_module("models.EfficientFace").efficient_face()
    ours = EfficientFaceNetwork(SIZES["efficientface"])
    carry(theirs, ours, "fc.*")
    theirs.fc = nn.Identity()
    images = drawn("images", 2, 3, 224, 224)
    found = {"efficientface": (theirs(images), ours.eval()(images))}
    sys.path[:0] = [str(upstream / "2D3MF/src")]
    module = importlib.import_module("efficientFace.load_model")
    temporal = module.EfficientFaceTemporal([4, 8, 4], [29, 116, 232, 464, 1024], num_classes=1, im_per_sample=10)
    carry(temporal, ours, "conv1d_*", "classifier_1.*")
    found["efficientface of 2D3MF"] = temporal.forward_features(images), ours(images)
    return found


def audio_resnet(upstream: Path) -> dict[str, tuple[Tensor, Tensor]]:
    from visavox.detectors.td3mf.backbones.resnet import AudioResNetNetwork

    sys.path[:0] = [str(upstream / "2D3MF/src")]
    theirs = importlib.import_module("audio_resnet.audio_resnet18").AudioResNet18()
    ours = AudioResNetNetwork(64, 2)
    carry(theirs, ours, "fc.*")
    images = drawn("mfcc", 2, 10, 87)
    return {"resnet": (theirs(images), ours.eval()(images))}


def eat(upstream: Path) -> dict[str, tuple[Tensor, Tensor]]:
    from visavox.detectors.td3mf.backbones.eat import SIZES, EatEncoder

    with published_fairseq(upstream):
        package = namespace("eat_models", upstream / "EAT/models")
        module = importlib.import_module(f"{package}.EAT_pretraining")
        images = importlib.import_module(f"{package}.images")
    image = images.D2vImageConfig(
        type=module.Modality.IMAGE, in_chans=1, prenet_depth=0, num_extra_tokens=1, init_extra_token_zero=False
    )
    image.decoder = None  # of pre-training only
    image.num_alibi_heads = 12
    config = module.Data2VecMultiConfig(
        encoder_dropout=0, post_mlp_drop=0, attention_dropout=0, supported_modality=module.Modality.IMAGE
    )
    config.modalities = types.SimpleNamespace(image=image)
    theirs = module.Data2VecMultiModel(config, [module.Modality.IMAGE], skip_ema=True)
    ours = EatEncoder(SIZES["eat"])
    name = "modality_encoders.IMAGE.fixed_positional_encoder.positions"
    assert torch.allclose(theirs.state_dict()[name], ours.state_dict()[name], atol=2e-4)  # an ulp of the largest angle
    carry(theirs, ours)
    mel = drawn("mel", 1, 1, 1024, 128)
    published = theirs.eval().extract_features(mel, padding_mask=None, mask=False, remove_extra_tokens=False)["x"]
    return {"eat": (published[:, 1:], ours.eval()(mel))}


def emotion2vec(upstream: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """With the configuration that FunASR gives emotion2vec_base (funasr/models/emotion2vec/template.yaml)."""
    from visavox.detectors.td3mf.backbones.emotion2vec import SIZES, Emotion2vecEncoder

    with published_fairseq(upstream):
        package = namespace("emotion2vec_models", upstream / "emotion2vec/upstream/models")
        module = importlib.import_module(f"{package}.emotion2vec")
        audio = importlib.import_module(f"{package}.audio")
        configs = importlib.import_module(f"{package}.config")
    cfg = audio.D2vAudioConfig(
        prenet_depth=4,
        num_extra_tokens=10,
        use_alibi_encoder=True,
        learned_alibi_scale=True,
        learned_alibi_scale_per_head=True,
    )
    cfg.decoder, cfg.num_alibi_heads, cfg.model_depth = None, 12, 8
    config = configs.Data2VecMultiConfig(norm_eps=1e-5)
    config.modalities = types.SimpleNamespace(audio=cfg)
    theirs = module.Data2VecMultiModel(config)
    ours = Emotion2vecEncoder(SIZES["emotion2vec"])
    carry(theirs, ours)
    sound = drawn("sound", 2, 16000)
    return {"emotion2vec": (theirs.eval().extract_features(sound)["x"], ours.eval()(sound))}


def xvectors(upstream: Path) -> dict[str, tuple[Tensor, Tensor]]:
    from visavox.detectors.td3mf.backbones import xvector

    speechbrain = published_speechbrain(upstream)
    theirs, ours = speechbrain.Xvector.Xvector(in_channels=24), xvector.Tdnn(xvector.FULL)
    pooling = theirs.blocks[15]
    pooling._get_gauss_noise = lambda shape, device: torch.zeros(shape, device=device)
    carry(theirs, ours)
    bands = drawn("bands", 2, 101, 24)
    found = {"xvectors": (theirs(bands)[:, 0], ours.eval()(bands))}
    classifier = speechbrain.Xvector.Classifier([None, None, 512], out_neurons=7205)
    our_classifier = xvector.Classifier(xvector.FULL)
    carry(classifier, our_classifier)
    vectors = drawn("vectors", 2, 512)
    found["xvectors_posteriors"] = classifier(vectors[:, None])[:, 0], our_classifier.eval()(vectors)
    sound = 0.1 * drawn("sound", 2, 16000)
    found["xvectors filterbank"] = speechbrain.features(sound), xvector.filterbank(sound)
    return found


def kaldi(upstream: Path) -> dict[str, tuple[Tensor, Tensor]]:
    from visavox.detectors.td3mf.backbones.eat import fbank

    sys.modules.setdefault("torchaudio", MagicMock())
    spec = importlib.util.spec_from_file_location("published_kaldi", upstream / "torchaudio_kaldi.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sound = 0.1 * drawn("sound", 16000)
    words = {"htk_compat": True, "sample_frequency": 16000, "use_energy": False, "window_type": "hanning"}
    theirs = module.fbank(sound[None], num_mel_bins=128, dither=0.0, frame_shift=10, **words)
    return {"kaldi fbank": (theirs, fbank(sound))}


def carry(theirs: nn.Module, ours: nn.Module, *unread: str) -> None:
    """Give both networks the same random parameters; names and shapes have to be equal but for `unread`."""
    from visavox.weights.loading import fit

    randomise(theirs)
    fit(ours, theirs.state_dict(), unread=unread, what="published")


def namespace(name: str, folder: Path) -> str:
    """Make a folder importable as a package without running its __init__.py."""
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    return name


def published_marlin(upstream: Path, size: object) -> nn.Module:
    package = namespace("marlin_model", upstream / "MARLIN/src/marlin_pytorch/model")
    encoder = importlib.import_module(f"{package}.encoder").MarlinEncoder
    return encoder(
        img_size=size.image, embed_dim=size.dim, depth=size.depth, num_heads=size.heads, qkv_bias=True, init_values=0.0
    )


@contextlib.contextmanager
def published_fairseq(upstream: Path) -> Iterator[None]:
    """fairseq's own layers; what only trains or registers is empty. Dataclasses become hashable, as before Python 3.11."""
    folder = upstream / "2D3MF/src/fairseq/fairseq"
    for name in ("fairseq", "fairseq.models", "fairseq.data", "fairseq.tasks", "fairseq.dataclass", "fairseq.utils"):
        sys.modules[name] = MagicMock()
    for name in ("fairseq.data.data_utils", "fairseq.modules.transformer_sentence_encoder"):
        sys.modules[name] = MagicMock()
    sys.modules["fairseq.dataclass"].FairseqDataclass = object
    models = sys.modules["fairseq.models"]
    models.BaseFairseqModel, models.register_model = nn.Module, lambda *a, **k: lambda kind: kind
    modules = types.ModuleType("fairseq.modules")
    modules.__path__ = [str(folder / "modules")]
    sys.modules["fairseq.modules"] = modules
    for name in ("layer_norm", "same_pad", "transpose_last", "fp32_group_norm", "grad_multiply"):
        vars(modules).update(
            {k: v for k, v in vars(importlib.import_module(f"fairseq.modules.{name}")).items() if k[0].isupper()}
        )
    modules.EMAModule = modules.EMAModuleConfig = object
    wav2vec = types.ModuleType("fairseq.models.wav2vec")
    source = ast.parse((folder / "models/wav2vec/wav2vec2.py").read_text())
    source.body = [node for node in source.body if getattr(node, "name", "") == "ConvFeatureExtractionModel"]
    space = {"nn": nn, "List": list, "Tuple": tuple, **vars(modules)}
    exec(compile(source, "wav2vec2.py", "exec"), space)
    wav2vec.ConvFeatureExtractionModel = space["ConvFeatureExtractionModel"]
    sys.modules["fairseq.models.wav2vec"] = wav2vec
    sys.modules["fairseq.models.wav2vec.wav2vec2"] = MagicMock()
    importlib.import_module("timm.models.vision_transformer")  # before dataclasses change
    plain = dataclasses.dataclass
    dataclasses.dataclass = functools.partial(plain, unsafe_hash=True)
    try:
        yield
    finally:
        dataclasses.dataclass = plain


def published_speechbrain(upstream: Path) -> types.SimpleNamespace:
    sys.modules.setdefault("torchaudio", MagicMock())
    folder = upstream / "speechbrain/speechbrain"
    for name in ("", ".nnet", ".lobes", ".lobes.models", ".processing", ".utils", ".dataio"):
        namespace(f"speechbrain{name}", folder / name.strip(".").replace(".", "/"))
    root = sys.modules["speechbrain"]
    root.nnet = sys.modules["speechbrain.nnet"]
    for name in ("containers", "linear", "normalization", "activations"):
        setattr(root.nnet, name, importlib.import_module(f"speechbrain.nnet.{name}"))
    features = importlib.import_module("speechbrain.processing.features")
    stft, bank = features.STFT(16000), features.Filterbank(n_mels=24)
    return types.SimpleNamespace(
        Xvector=importlib.import_module("speechbrain.lobes.models.Xvector"),
        features=lambda sound: bank(features.spectral_magnitude(stft(sound))),
    )


COMPARISONS = {
    "fusion": fusion,
    "finetuned": finetuned,
    "marlin": marlin_encoders,
    "efficientface": efficientface,
    "resnet": audio_resnet,
    "eat": eat,
    "emotion2vec": emotion2vec,
    "xvectors": xvectors,
    "kaldi": kaldi,
}

if __name__ == "__main__":
    main()
