"""The published detectors that run here: what each is, its licence, what its makers report and how far that was verified here."""

from __future__ import annotations

from dataclasses import dataclass, field


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


_LADEDA = """@article{cavia2024realtime,
  title = {Real-Time Deepfake Detection in the Real-World},
  author = {Cavia, Bar and Horwitz, Eliahu and Reiss, Tal and Hoshen, Yedid},
  journal = {arXiv:2406.09398},
  year = {2024}
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
    )
}
