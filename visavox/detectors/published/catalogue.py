"""The published detectors that run here: what each is, its licence, what its makers report and how far that was verified here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """One model that `visavox detect --model NAME` takes."""

    name: str
    what: str
    """What it judges, in a line."""
    weights: tuple[str, ...]
    """Names in the registry of weights."""
    licence: str
    """Of the weights."""
    reported: str
    """The makers' figures with their protocol; no figure of ours."""
    verified: str
    """What was checked here."""
    reads: frozenset[str] = field(default_factory=lambda: frozenset({"video", "picture"}))
    """Kinds of file that it judges."""
    extra: str = ""
    """The extra that it needs, of `pip install visavox[EXTRA]`."""
    cite: str = ""
    """BibTeX of the publication."""


_GEND = """@inproceedings{yermakov2026gend,
  title = {Deepfake Detection that Generalizes Across Benchmarks},
  author = {Yermakov, Andrii and Cech, Jan and Matas, Jiri and Fritz, Mario},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision},
  year = {2026}
}"""
_LADEDA = """@article{cavia2024realtime,
  title = {Real-Time Deepfake Detection in the Real-World},
  author = {Cavia, Bar and Horwitz, Eliahu and Reiss, Tal and Hoshen, Yedid},
  journal = {arXiv:2406.09398},
  year = {2024}
}"""
_DEEPFENSE = """@article{elkheir2026deepfense,
  title = {DeepFense: A Unified, Modular, and Extensible Framework for Robust Deepfake Audio Detection},
  author = {El Kheir and Das and Xiao and Wang and Kallel and Erdogan and Vu and Polzehl and M{\\"o}ller},
  journal = {arXiv:2604.08450},
  year = {2026}
}"""
MODELS: dict[str, Published] = {
    model.name: model
    for model in (
        Published(
            name="tiny_ladeda_wildrf",
            what="traces of generators in whole pictures, 1,297 parameters; trained on photographs of social networks",
            weights=("tiny_ladeda_wildrf",),
            licence="software research licence: research and evaluation, no commercial use",
            reported="93.7 % mAP is reported for its teacher LaDeDa on WildRF (other platforms than trained on); for this small "
            "form `a minor decrease`, no figure in the repository",
            verified="network, input and published file equal the published code; on frames of compressed videos it calls most "
            "real ones fake",
            cite=_LADEDA,
        ),
        *(
            Published(
                name=name,
                what=f"aligned faces, one by one; {backbone}, its layer norms tuned; trained on FaceForensics++",
                weights=(name, f"{name}_config", "retinaface_mobilenet0.25"),
                licence=licence,
                reported="AUC of videos, trained on FaceForensics++ and tested elsewhere: Celeb-DF v2 .960, DFDC .871, "
                "DeepFakeDetection .970, FFIW .945 (best of its backbones)",
                verified="network and input equal the published code on random weights; its trained file was never seen here, "
                "and faces are found by RetinaFace MobileNet0.25 in place of its makers' detector",
                extra=extra,
                cite=_GEND,
            )
            for name, backbone, licence, extra in (
                ("gend_clip_l14", "CLIP ViT-L/14", "MIT", "foundation"),
                ("gend_pe_l", "PE-core ViT-L/14", "MIT; PE-core Apache-2.0", ""),
                ("gend_dinov3_l16", "DINOv3 ViT-L/16", "MIT; DINOv3 has a licence of its own (Meta)", "foundation"),
            )
        ),
        Published(
            name="deepfense_wavlm_nes2net",
            what="voices, in windows of four seconds; WavLM-Large and Nes2Net; trained on ASVspoof 2019 LA",
            weights=("deepfense_wavlm_nes2net",),
            licence="Apache-2.0; WavLM MIT",
            reported="none for this file; of 400 models of its makers the best training corpus gives a mean EER of 22.3 % over "
            "corpora of other makers",
            verified="network and input equal the published code on random weights; its trained file was never seen here",
            reads=frozenset({"video"}),
            extra="foundation",
            cite=_DEEPFENSE,
        ),
    )
}


def calibration_of(model: str) -> Path:
    """Return where the calibration of a model lies: below the weights folder; a checkpoint's goes by its whole path."""
    from visavox.weights import folder

    if Path(model).is_file():
        model = str(Path(model).resolve())
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in model)
    return folder() / "calibrations" / f"{safe}.json"
