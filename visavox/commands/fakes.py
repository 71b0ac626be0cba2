"""Make fakes of the real clips of a split and write them to disk, beside the reals that took the same road.

    visavox fakes data/real.csv --output made
    visavox fakes data/real.csv --root . --output made --kinds sbv,offset:0.5,griffin_lim --per-real 2 --sheets

Reads the real clips of a split CSV (`visavox corpora folder` makes one), whose bundles hold their track. Writes OUTPUT/real/ and
OUTPUT/fake/ (bundles), OUTPUT/fakes.csv (a split CSV: who is in each clip, how it was made, which seconds are forged) and, with
--sheets, OUTPUT/sheets/KIND.png to look at. The same seed writes the same set, also where it was stopped and run again: what is
finished is kept. `visavox audit OUTPUT/fakes.csv --root OUTPUT` says what gives the classes away.
Exit codes: 0 done; 1 some clips gave no fake and are named (those that no kind changes stay, as real ones); 2 wrong arguments,
data or kinds; 4 another run writes there; 5 the disk is full; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visavox import runs
from visavox.config.fakes import FORGED, KINDS, weights
from visavox.files import shown, sweep
from visavox.logs import complain, say
from visavox.workers import launching

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from visavox.bundle import Bundle, Stamp
    from visavox.pseudofakes.footage import Measure
    from visavox.pseudofakes.make import Fake

CSV = "fakes.csv"
SHOWN = 3
"""Fakes of a kind on its contact sheet."""


class Clip(NamedTuple):
    """A real clip of the split."""

    path: str
    """Its bundle."""
    name: str
    """What its files are called."""
    split: str
    person: str
    """Who is in it: the identities of its row, or the group it belongs to."""
    group: str
    """Of people who hang together; somebody else is of another one."""


class Written(NamedTuple):
    """A set on the disk."""

    rows: pd.DataFrame
    """Of its CSV."""
    without: list[str]
    """Clips that gave no fake, each with the reason."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        with runs.stoppable(), runs.holding(arguments.output):
            rows, without = write_set(
                arguments.split_csv,
                arguments.output,
                root=arguments.root,
                kinds=arguments.kinds,
                per_real=arguments.per_real,
                seconds=arguments.seconds,
                seed=arguments.seed,
                road=arguments.road,
                tooled=arguments.tooled,
                landmarks=arguments.landmarks,
                pairs=arguments.pairs,
                sheets=arguments.sheets,
            )
    except KeyboardInterrupt as stop:
        say("interrupted; run the same command again to continue", error=True)
        return runs.exit_code(stop)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        complain("visavox fakes", error)
        return runs.exit_code(error)
    made = rows[rows["label"] == 1]
    counts = ", ".join(f"{count} {kind}" for kind, count in made["method"].value_counts().sort_index().items())
    for line in without:
        say(f"  {shown(line)}", error=True)
    say(f"{arguments.output / CSV}: {len(rows) - len(made)} real clips and {len(made)} fakes: {counts}")
    return 1 if without else 0


def write_set(
    split_csv: Path,
    output: Path,
    *,
    root: Path = Path(),
    kinds: Sequence[str] = KINDS,
    per_real: int = 1,
    seconds: float | None = None,
    seed: int = 100,
    road: str = "both",
    tooled: float = 0.5,
    landmarks: int = 5,
    pairs: bool = False,
    sheets: bool = False,
) -> Written:
    """Write the set, or what is left of it; of a clip that no kind changes the real one alone, of others without a fake nothing.

    Args:
        kinds: names with weights, such as `sbv:2`; a clip is given those it allows in turns, drawn by weight.
        tooled: share of clips whose whole sound passed the tool of the fake unchanged, in both classes.
        landmarks: that faces are outlined by: 5, or 68 with the extra `landmarks`.
        pairs: write the real clip once more beside each of its fakes, with the same stretch and road.
        road: `both` classes take it, `fakes` alone (to see what that gives away), or `none`.

    Raises:
        SplitError: the CSV is faulty, has no real clips, or its bundles were made with several settings.
        BundleError: no clip gives a fake; the message is the first one's reason.
    """
    import pandas as pd

    from visavox import __version__
    from visavox.bundle import BundleError, read_stamp
    from visavox.progress import progress
    from visavox.pseudofakes.journal import Journal
    from visavox.pseudofakes.sheet import save_sheet
    from visavox.splits.table import COLUMNS, write_split

    how = {"seconds": seconds, "tooled": tooled}
    recipe = Recipe(weights(list(kinds)), per_real, seed, road, landmarks, pairs, sheets, how)
    clips = _reals(split_csv, root)
    stamps, lenders = [read_stamp(clip.path) for clip in clips], _Lenders(clips)
    measure = _measure(clips, stamps)
    for folder in ("real", "fake"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    sweep(output)
    known = [[*clip[1:], stamp.source_sha256] for clip, stamp in zip(clips, stamps)]
    facts = json.dumps([__version__, stamps[0].prep_hash, recipe._asdict(), known], sort_keys=True)
    journal = Journal(output, hashlib.sha256(facts.encode()).hexdigest())
    seen: dict[str, list[np.ndarray]] = {}
    rows: list[dict[str, Any]] = []
    without: list[str] = []
    with progress("making fakes", len(clips)) as advance:
        for index, clip in enumerate(clips):
            done = journal.finished.get(clip.name)
            if done is None or (sheets and any(len(seen.get(kind, [])) < SHOWN for kind in _kinds_of(done["rows"]))):
                done = journal.append(clip.name, *_made(clip, index, lenders, output, recipe, measure, seen))
            rows += done["rows"]
            without += done["without"]
            advance()
    if not any(row["label"] for row in rows):
        raise BundleError(f"no clip gives a fake: {without[0]}")
    for kind, pictures in seen.items():
        (output / "sheets").mkdir(exist_ok=True)
        save_sheet(output / "sheets" / f"{kind}.png", pictures)
    table = pd.DataFrame(rows)
    table = table[[*COLUMNS, *(name for name in table if name not in COLUMNS)]]
    write_split(table, output / CSV, output, part=True)
    journal.path.unlink()
    return Written(table, without)


class Recipe(NamedTuple):
    """How a set is made; see `write_set`."""

    shares: Mapping[str, float]
    """Kind -> weight."""
    per_real: int
    seed: int
    road: str
    landmarks: int
    pairs: bool
    sheets: bool
    how: Mapping[str, Any]
    """Of `forge` and `untouched`: seconds and tooled."""


def _made(
    clip: Clip,
    index: int,
    lenders: _Lenders,
    output: Path,
    recipe: Recipe,
    measure: Measure | None,
    seen: dict[str, list[np.ndarray]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Write the fakes of a clip and the real ones beside them; their rows, and why some are missing."""
    from visavox.bundle import Bundle, BundleError
    from visavox.pseudofakes.make import draw_kind, forge_one, untouched
    from visavox.pseudofakes.sheet import sheet

    road = recipe.road
    rows: list[dict[str, Any]] = []
    without: list[str] = []
    try:
        bundle = Bundle.load(clip.path)
    except BundleError as error:
        return rows, [str(error)]
    for turn in range(recipe.per_real):
        draw = [recipe.seed, index, turn]
        try:
            lender = lenders(clip, draw)
            other = None if lender is None else Bundle.load(lender.path)
            lent = other is not None and other.has_sound and bool(other.sound.any())
            how: dict[str, Any] = {"seed": draw, "other": other, **recipe.how}
            kind = draw_kind(recipe.shares, bundle, draw, lent=lent)
            fake = forge_one(
                recipe.shares, bundle, measure, **how, lent=lent, road=road != "none", landmarks=recipe.landmarks
            )
            if turn == 0 or recipe.pairs:
                real = untouched(bundle, measure, **how, beside=kind, road=road == "both")
                name = f"real/{clip.name}{f'_{turn}' if recipe.pairs else ''}.npz"
                rows.append(_write(real, output, name, clip))
            if fake is None:
                without.append(f"{clip.path}: none of {', '.join(recipe.shares)} changes it")
                continue
            made = fake.kind.partition(":")[0]
            rows.append(_write(fake, output, f"fake/{clip.name}_{turn}_{made}.npz", clip, lender))
            if recipe.sheets and len(seen.setdefault(made, [])) < SHOWN:
                pair = untouched(bundle, None, **how, beside=kind, road=road != "none")
                seen[made].append(sheet(pair, fake))
        except BundleError as error:
            without.append(f"{clip.path}: {error}")
    return rows, without


def _kinds_of(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    return {row["method"].partition(":")[0] for row in rows if row["label"]}


def _reals(split_csv: Path, root: Path) -> list[Clip]:
    from visavox.splits.groups import group_of
    from visavox.splits.table import SplitError, read_split

    rows = read_split(split_csv, root, part=True)
    rows = rows[rows["label"] == 0].reset_index(drop=True)
    if rows.empty:
        raise SplitError(f"{split_csv}: no real clips to make fakes of; label 0 is real")
    people = next((rows[name] for name in ("source", "identity") if name in rows and rows[name].ne("").all()), None)
    groups = group_of(rows if "source" in rows or people is None else rows.assign(source=people))
    stems = [Path(path).stem for path in rows["filepath"]]
    alike = Counter(stems)
    names = [stem if alike[stem] == 1 else f"{index:05d}_{stem}" for index, stem in enumerate(stems)]
    who = groups if people is None else people
    return [Clip(*one) for one in zip(rows["path"], names, rows["split"], who, groups)]


def _measure(clips: Sequence[Clip], stamps: Sequence[Stamp]) -> Measure:
    """Audio-visual distances as the bundles' own settings measure them."""
    import torch

    from visavox import config as configuration
    from visavox.preprocessing.tools import build_sync
    from visavox.splits.table import SplitError

    if len({stamp.prep_hash for stamp in stamps}) > 1:
        raise SplitError("the bundles were made with several settings; crop all of them with the same")
    settings = json.loads(stamps[0].settings) | {
        "frame_num": 1,
        "detector": {"name": "xception_video"},
    }  # fits any bundle
    config = configuration.from_dict(settings, source=f"settings of {clips[0].path}")
    return build_sync(config, torch.device("cpu"))


class _Lenders:
    """Who may lend face or voice to a clip: somebody else of its split."""

    def __init__(self, clips: Sequence[Clip]):
        from visavox.splits.groups import Others

        self._clips: dict[str, list[Clip]] = {}
        for clip in clips:
            self._clips.setdefault(clip.split, []).append(clip)
        self._others = {split: Others([clip.group for clip in some]) for split, some in self._clips.items()}

    def __call__(self, clip: Clip, draw: Sequence[int]) -> Clip | None:
        """Return one of them, None where there is nobody."""
        import numpy as np

        others = self._others[clip.split]
        count = others.count(clip.group)
        if not count:
            return None
        number = int(np.random.default_rng([*draw, 5]).integers(count))
        return self._clips[clip.split][others.place(clip.group, number)]


def _write(made: Bundle | Fake, output: Path, name: str, clip: Clip, lender: Clip | None = None) -> dict[str, Any]:
    """Write a bundle; returns its row."""
    from visavox.bundle import Bundle
    from visavox.pseudofakes.make import NEEDS_OTHER

    row: dict[str, Any] = {"filename": name, "filepath": name, "split": clip.split, "label": 0, "method": "real"}
    row |= {"source": clip.person, "donors": "", "fake_segments": "[]", "audio_label": "0", "video_label": "0"}
    if isinstance(made, Bundle):
        made.save(output / name)
        return row
    made.bundle.save(output / name)
    times, frame = made.bundle.times.astype(float), 1 / float(made.bundle.fps)
    spans = sorted({(segment.first, segment.last) for segment in made.segments})
    forged = made.kind.rpartition(":")[2]
    borrows = lender is not None and forged in NEEDS_OTHER
    return row | {
        "label": 1,
        "method": made.kind,
        "donors": lender.person if lender is not None and borrows else "",
        "fake_segments": json.dumps([[round(times[a], 4), round(times[b - 1] + frame, 4)] for a, b in spans]),
        **{column: str(int(forged in kinds)) for column, kinds in FORGED.items()},
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox fakes",
        description=__doc__,
        epilog=f"kinds: {', '.join(KINDS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("split_csv", type=Path, help="split CSV; its real clips are used")
    parser.add_argument("--root", type=Path, default=Path(), help="where relative file paths start (default .)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the set")
    parser.add_argument(
        "--kinds",
        type=lambda text: text.split(","),
        default=list(KINDS),
        help="kinds with weights, a,b:2 (default all)",
    )
    parser.add_argument("--per-real", type=launching.positive, default=1, help="fakes of each real clip (default 1)")
    parser.add_argument("--seconds", type=float, help="longest stretch of a clip (default all of it)")
    parser.add_argument("--seed", type=int, default=100, help="of everything drawn (default 100)")
    parser.add_argument(
        "--road",
        choices=("both", "fakes", "none"),
        default="both",
        help="who is encoded once more: both classes alike (default); fakes alone gives the class away, for trying the audit",
    )
    parser.add_argument(
        "--landmarks", type=int, choices=(5, 68), default=5, help="that faces are outlined by; 68: extra `landmarks`"
    )
    parser.add_argument(
        "--tooled", type=float, default=0.5, help="share of clips vocoded as a whole in both classes (default 0.5)"
    )
    parser.add_argument(
        "--pairs", action="store_true", help="write a real clip beside each fake, not one for all of its fakes"
    )
    parser.add_argument("--sheets", action="store_true", help="write contact sheets and spectrograms of each kind")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
