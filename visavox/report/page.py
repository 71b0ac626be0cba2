"""report.html: one file that loads nothing from the network. Tables for reading, figures with words for those who cannot see."""

import base64
import json
from collections.abc import Sequence
from html import escape as escape_markup
from typing import Any

from visavox.evaluation.metrics import LOWER_IS_BETTER, METRICS
from visavox.files import shown
from visavox.report.plots import Figure

PART_METRICS = ("auc", "ap", "eer", "tpr_at_10_fpr", "balanced_accuracy", "f1", "brier", "ece")

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #52606d; --line: #d5dbe1; --back: #fff; --panel: #f5f7fa;
  --link: #0b5cad; --warn: #8a2c0d; --warn-back: #fff3ea; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #aab4bf; --line: #3b4652; --back: #14191f;
  --panel: #1d242c; --link: #7cb8f5; --warn: #ffb48a; --warn-back: #33201a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--back);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .4rem 0; max-width: 62ch; } .soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
a { color: var(--link); } .skip { position: absolute; left: -999rem; } .skip:focus { left: 1rem; top: 1rem; }
nav { margin: 1rem 0; } nav a { margin-right: 1rem; white-space: nowrap; display: inline-block; padding: .25rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1rem 0; padding: 0; }
.tiles > div { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem .9rem; }
.tiles dt { color: var(--soft); font-size: .85rem; } .tiles dd { margin: 0; }
.tiles dd.big { font-size: 1.55rem; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
.warn { background: var(--warn-back); color: var(--warn); border-left: .3rem solid currentColor; padding: .6rem 1rem;
  margin: 1rem 0; border-radius: .25rem; } .warn ul { margin: 0; padding-left: 1.1rem; }
.wide { overflow-x: auto; margin: .5rem 0 1rem; } .wide:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  min-width: min(100%, 34rem); }
caption { text-align: left; padding-bottom: .35rem; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: baseline; }
th:first-child, .word { text-align: left; } thead th { color: var(--soft); font-weight: 600; font-size: .82rem; }
tbody th { font-weight: 500; } tr.macro > * { border-top: 2px solid var(--line); font-style: italic; }
td small { color: var(--soft); white-space: nowrap; display: block; font-size: .78rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
figure { margin: 0; } figure.full { grid-column: 1 / -1; max-width: 46rem; }
.figures img { width: 100%; height: auto; border: 1px solid var(--line); border-radius: .5rem; background: #fff; }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .75rem; padding: 0;
  list-style: none; }
.faces img, .faces .none { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: .4rem; background: var(--panel);
  display: grid; place-items: center; font-size: .8rem; color: var(--soft); }
.faces p { font-size: .82rem; margin: .2rem 0; overflow-wrap: anywhere; }
pre { background: var(--panel); padding: .75rem 1rem; overflow-x: auto; border-radius: .5rem; font-size: .8rem; }
@media (max-width: 30rem) { th, td { padding: .35rem .4rem; } }
@media print { nav, .skip { display: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def escape(text: str, quote: bool = True) -> str:
    """Return a name or message as HTML: no markup, and nothing that turns the direction of reading."""
    return escape_markup(shown(text, lines=True), quote)


def render(
    title: str,
    numbers: dict[str, Any],
    figures: dict[str, Figure],
    errors: Sequence[dict[str, Any]],
) -> str:
    """The whole page.

    Args:
        numbers: what report.json holds.
        errors: worst errors, each with filename, label, probability, note and png (bytes or None).
    """
    sections = {
        "overall": ("Overall", _overall(numbers)),
        "figures": ("Figures", _figures(figures)),
        "parts": ("Parts", "".join(_part(name, part) for name, part in numbers["breakdowns"].items())),
        "errors": ("Worst errors", _errors(errors)),
        "time": ("Run time", _run_time(numbers["run_time"])),
        "origin": ("Origin", _provenance(numbers["provenance"])),
    }
    sections = {key: section for key, section in sections.items() if section[1]}
    links = "".join(f'<a href="#{key}">{name}</a>' for key, (name, _) in sections.items())
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{name}</h2>{text}</section>'
        for key, (name, text) in sections.items()
    )
    return page(title, f"{_lead(numbers)}{_warnings(numbers)}<nav aria-label='Sections'>{links}</nav>{body}")


def page(title: str, body: str) -> str:
    """A page around its body."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f'<body><a class="skip" href="#main">Skip to the numbers</a><header><h1>{escape(title)}</h1></header>'
        f'<main id="main">{body}</main></body></html>\n'
    )


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, last_is_macro: bool = False) -> str:
    """Cells are HTML; the first of a row is its header."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    lines = []
    for i, row in enumerate(rows):
        mark = ' class="macro"' if last_is_macro and i == len(rows) - 1 else ""
        cells = "".join(f"<td>{cell}</td>" for cell in row[1:])
        lines.append(f'<tr{mark}><th scope="row">{row[0]}</th>{cells}</tr>')
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption, quote=True)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def number(metric: dict[str, float | None] | None) -> str:
    """`0.912` over its interval."""
    if metric is None or metric["value"] is None:
        return "–"
    if metric["low"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f}<small>{metric['low']:.3f} – {metric['high']:.3f}</small>"


def _lead(numbers: dict[str, Any]) -> str:
    overall, origin = numbers["overall"], numbers["provenance"]
    counts = f"{overall['n_real']:,} real and {overall['n_fake']:,} fake clips"
    groups = (
        f", {overall['groups']:,} identity groups ({escape(numbers['group_column'])})"
        if numbers["group_column"]
        else ""
    )
    about = f" · {escape(origin['rows'])}" if origin.get("rows") else ""
    return f'<p class="soft">{counts}{groups}{about}</p>'


def _warnings(numbers: dict[str, Any]) -> str:
    items = "".join(
        f"<li>{escape(text)}</li>" for text in [*numbers["provenance"].get("stamps", []), *numbers["warnings"]]
    )
    return f'<div class="warn" role="note" aria-label="Warnings"><ul>{items}</ul></div>' if items else ""


def _overall(numbers: dict[str, Any]) -> str:
    metrics = numbers["overall"]["metrics"]
    tiles = "".join(
        f"<div><dt>{METRICS[name]}{' ↓' if name in LOWER_IS_BETTER else ''}</dt>"
        f'<dd class="big">{_value(metrics[name])}</dd><dd class="soft">{_interval(metrics[name])}</dd></div>'
        for name in METRICS
    )
    confusion, threshold = numbers["confusion"], numbers["threshold"]
    called = table(
        f"Verdicts at threshold {threshold['value']:.4f} ({threshold['source']})",
        ["", "called real", "called fake"],
        [
            ["real", f"{confusion['real_called_real']:,}", f"{confusion['real_called_fake']:,}"],
            ["fake", f"{confusion['fake_called_real']:,}", f"{confusion['fake_called_fake']:,}"],
        ],
    )
    bootstrap = numbers["bootstrap"]
    unit = "identity groups" if numbers["group_column"] else "clips"
    note = (
        f'<p class="soft">Fake is the positive class. Below each number its 95 % interval: {bootstrap["resamples"]:,} '
        f"bootstrap resamples of {unit}. ↓ marks numbers that should be small.</p>"
    )
    return f'<dl class="tiles">{tiles}</dl>{note}{called}'


def _figures(figures: dict[str, Figure]) -> str:
    items = []
    for name, figure in figures.items():
        source = base64.b64encode(figure.png).decode()
        wide = ' class="full"' if name == "auc_by_part" else ""
        words = escape(f"{figure.title}. {figure.text}", quote=True)
        items.append(
            f'<figure{wide}><img src="data:image/png;base64,{source}" alt="{words}"><figcaption>{words}</figcaption></figure>'
        )
    return f'<div class="figures">{"".join(items)}</div>'


def _part(column: str, part: dict[str, Any]) -> str:
    rows = [
        [
            escape(name),
            f"{value['n_real']:,}",
            f"{value['n_fake']:,}",
            *(number(value["metrics"][m]) for m in PART_METRICS),
        ]
        for name, value in part["values"].items()
    ]
    macro = ["macro average", "", "", *(f"{part['macro'][m]:.3f}" if m in part["macro"] else "–" for m in PART_METRICS)]
    against = " and ".join(sorted({value["against"] for value in part["values"].values()}))
    names = [f"{METRICS[name]}{' ↓' if name in LOWER_IS_BETTER else ''}" for name in PART_METRICS]
    return f"<h3>By {escape(column)}</h3>" + table(
        f"Fakes of each {column} against {against}",
        [escape(column), "real", "fake", *names],
        [*rows, macro],
        last_is_macro=True,
    )


def _errors(errors: Sequence[dict[str, Any]]) -> str:
    parts = []
    for label, heading in ((1, "Fakes with the lowest scores"), (0, "Real clips with the highest scores")):
        items = "".join(_error(error) for error in errors if error["label"] == label)
        if items:
            parts.append(f'<h3>{heading}</h3><ul class="faces">{items}</ul>')
    return "".join(parts)


def _error(error: dict[str, Any]) -> str:
    if error["png"]:
        source = base64.b64encode(error["png"]).decode()
        picture = f'<img src="data:image/png;base64,{source}" alt="Face of {escape(error["filename"], quote=True)}">'
    else:
        picture = '<span class="none">no picture</span>'
    note = f" · {escape(error['note'])}" if error["note"] else ""
    place = escape(error["filename"]).replace("/", "/<wbr>").replace("_", "_<wbr>")  # where a narrow column may break
    return f"<li>{picture}<p><strong>{error['probability']:.3f}</strong>{note}<br>{place}</p></li>"


def _run_time(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    cells = [
        [
            escape(row["stage"]),
            f"{row['clips']:,}",
            *(f"{row[key]:.4f}" for key in ("mean", "median", "p95")),
            f"{row['sum']:.1f}",
        ]
        for row in rows
    ]
    return table(
        "Seconds per clip and stage, as each worker measured them; the network's score comes on top of total",
        ["stage", "clips", "mean", "median", "95 %", "sum"],
        cells,
    )


def _provenance(origin: dict[str, Any]) -> str:
    rows = [
        [escape(name.replace("_", " ")), f"<code>{escape(str(value))}</code>"]
        for name, value in origin.items()
        if name not in ("config", "stamps", "rows") and value not in (None, "", {})
    ]
    facts = table("Where these numbers come from", ["what", "value"], rows)
    facts = facts.replace("<td>", '<td class="word">').replace('<th scope="col">', '<th scope="col" class="word">')
    if not origin.get("config"):
        return facts
    config = escape(json.dumps(origin["config"], indent=1))
    return f"{facts}<details><summary>Configuration of the detector</summary><pre>{config}</pre></details>"


def _value(metric: dict[str, float | None]) -> str:
    return "–" if metric["value"] is None else f"{metric['value']:.3f}"


def _interval(metric: dict[str, float | None]) -> str:
    return "not defined" if metric["low"] is None else f"{metric['low']:.3f} – {metric['high']:.3f}"
