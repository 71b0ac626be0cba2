"""The model card of an exported detector, and its citation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavox.detectors.analysis import ModelCard

CITATIONS = {
    "timesformer_syncnet": ("bertasius2021timesformer", "chung2016syncnet"),
    "xception_video": ("chollet2017xception",),
    "xception_audio": ("chollet2017xception",),
    "xception_fused": ("chollet2017xception",),
    "gend": ("yermakov2026gend",),
}
"""Detector -> what it rests on, keys of `ENTRIES`; others are cited as this project alone."""
ENTRIES = {
    "bertasius2021timesformer": """@inproceedings{bertasius2021timesformer,
  title = {Is Space-Time Attention All You Need for Video Understanding?},
  author = {Bertasius, Gedas and Wang, Heng and Torresani, Lorenzo},
  booktitle = {International Conference on Machine Learning},
  year = {2021}
}""",
    "chung2016syncnet": """@inproceedings{chung2016syncnet,
  title = {Out of Time: Automated Lip Sync in the Wild},
  author = {Chung, Joon Son and Zisserman, Andrew},
  booktitle = {Workshop on Multi-view Lip-reading, ACCV},
  year = {2016}
}""",
    "chollet2017xception": """@inproceedings{chollet2017xception,
  title = {Xception: Deep Learning with Depthwise Separable Convolutions},
  author = {Chollet, Fran{\\c{c}}ois},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2017}
}""",
    "yermakov2026gend": """@inproceedings{yermakov2026gend,
  title = {Deepfake Detection that Generalizes Across Benchmarks},
  author = {Yermakov, Andrii and Cech, Jan and Matas, Jiri and Fritz, Mario},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision},
  year = {2026}
}""",
}


def citation(card: ModelCard, version: str) -> str:
    """Return BibTeX of what was run: this project with the checkpoint's sum, and what the detector rests on."""
    ours = f"""@software{{visavox,
  title = {{Visavox: face against voice}},
  version = {{{version}}},
  note = {{detector {card.detector}, checkpoint sha256 {card.checkpoint or "none"}}}
}}"""
    return "\n\n".join([ours, *(ENTRIES[key] for key in CITATIONS.get(card.detector, ()))]) + "\n"


def readme(card: ModelCard, settings: Mapping[str, Any], reports: Sequence[Mapping[str, Any]], version: str) -> str:
    """Return the card in Markdown: what it is for, what it is not, direction of the output, calibration, measured AUC.

    Args:
        settings: the configuration, plain values.
        reports: contents of report.json files of `visavox eval --report`; none: the card says that nothing was measured.
    """
    return f"""---
library_name: visavox
tags: [deepfake-detection]
---
# {card.detector}
A deepfake detector of Visavox {version}, checkpoint sha256 `{card.checkpoint}`.

```python
import visavox

detector = visavox.load("this folder")  # safetensors and JSON; nothing in it is run
preprocess = visavox.preprocessor(detector.config)
detector.score([preprocess("clip.mp4")])  # P(fake)
```

## Intended use
Research on the detection of manipulated talking-face videos, and a first look at a single video beside other evidence.

## Out of scope
No decision about a person should rest on it. It says nothing about who made a video, or why.

## Limits
It knows what it was trained on ({card.trained_on or "not stated"}). Manipulations of other kinds, other compression, other people
and other recording conditions may be scored wrongly, in either direction, with high confidence.

## Output
P(fake) in [0, 1]: label 1 = fake, higher = more fake. Calibration: {card.calibration}.

## Measured
{_measured(reports)}

## Settings
```json
{json.dumps(settings, indent=1)}
```

## Cite
```bibtex
{citation(card, version)}```
"""


def _measured(reports: Sequence[Mapping[str, Any]]) -> str:
    if not reports:
        return "No evaluation was given to the export: nothing is claimed."
    lines = ["| clips | real | fake | AUC | 95 % interval |", "|---|---|---|---|---|"]
    for report in reports:
        name = report.get("provenance", {}).get("labels", "evaluation")
        lines.append(_row(str(name), report["overall"]))
        for corpus, part in report.get("breakdowns", {}).get("corpus", {}).get("values", {}).items():
            lines.append(_row(f"of it: {corpus}", part))
    return "\n".join(lines)


def _row(name: str, part: Mapping[str, Any]) -> str:
    auc = part["metrics"]["auc"]
    value = "undefined" if auc["value"] is None else f"{auc['value']:.3f}"
    span = "" if auc["low"] is None else f"{auc['low']:.3f} to {auc['high']:.3f}"
    return f"| {name.replace('|', '/')} | {part['n_real']} | {part['n_fake']} | {value} | {span} |"
