"""The pages of reports, from the templates beside this file: pages that load nothing and that can be read aloud.

Whatever stands in a table of labels or in a file name is text here: the templates escape every value, control characters too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from visavox.evaluation.metrics import LOWER_IS_BETTER, METRICS
from visavox.files import shown
from visavox.report.plots import Figure

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

PART_METRICS = ("auc", "ap", "eer", "tpr_at_10_fpr", "balanced_accuracy", "f1", "brier", "ece")
"""Those that the tables of the parts show."""


def render(
    title: str,
    numbers: dict[str, Any],
    figures: dict[str, Figure],
    errors: Sequence[dict[str, Any]],
) -> str:
    """Return report.html.

    Args:
        numbers: what report.json holds.
        errors: worst errors, each with filename, label, probability, note and png (bytes or None).
    """
    origin = numbers["provenance"]
    sections = {
        "overall": ("Overall", True),
        "figures": ("Figures", figures),
        "parts": ("Parts", numbers["breakdowns"]),
        "errors": ("Worst errors", errors),
        "time": ("Run time", numbers["run_time"]),
        "origin": ("Origin", True),
    }
    return fill(
        "report.html.jinja",
        title=title,
        numbers=numbers,
        origin=origin,
        figures=figures,
        errors=errors,
        warnings=[*origin.get("stamps", ()), *numbers["warnings"]],
        sections={key: name for key, (name, there) in sections.items() if there},
        names=METRICS,
        lower_is_better=LOWER_IS_BETTER,
        part_metrics=PART_METRICS,
    )


def render_matrix(
    title: str,
    caption: str,
    corpora: Sequence[str],
    detectors: Mapping[str, Mapping[str, dict[str, float | None] | None]],
) -> str:
    """Return matrix.html.

    Args:
        corpora: columns, in order.
        detectors: detector -> corpus -> value, low and high, or None where there is no number.
    """
    return fill("matrix.html.jinja", title=title, caption=caption, corpora=list(corpora), detectors=detectors)


def fill(template: str, **values: Any) -> str:
    """Return a template of this folder, filled in; every value is escaped."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("visavox.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "decimals": lambda value, places=3: f"{value:.{places}f}",
        "thousands": lambda value: f"{value:,}",
        "inline": lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}",
        "indented": lambda value: json.dumps(value, indent=1),
        "breakable": _breakable,
    }
    environment.filters |= filters
    return environment


def _readable(value: Any) -> Any:
    """Return text without what turns the direction of reading; markup of the templates' own stays."""
    return shown(value, lines=True) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _breakable(name: str) -> Markup:
    """Return a file name that a narrow column may break after a slash or an underscore."""
    from markupsafe import Markup, escape

    return escape(shown(name)).replace("/", Markup("/<wbr>")).replace("_", Markup("_<wbr>"))
