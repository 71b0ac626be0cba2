"""Find out who is who in clips that name nobody, so that nobody stands in two splits.

    visavox groups BUNDLES --faces --output groups.csv --sheets sheets
    visavox groups --named NAMED --faces --voices                            how well the networks tell named people apart
    visavox groups BUNDLES --faces --voices --named NAMED --output groups.csv
    visavox corpora dfdc --root DFDC --bundles BUNDLES --groups groups.csv --output data/dfdc.csv

Clips whose faces, or voices, lie no farther apart than a threshold are one group. The threshold is calibrated on NAMED,
bundles of people with names, as [split/]real|fake/PERSON/clip.npz or with --names CSV (filename,identity); the largest is
taken at which a share of --false-match of the pairs of two people match, and what it does to both kinds of pairs is printed.
Without NAMED it is the published one for faces, 0.6; for voices nobody publishes one. OUTPUT has a row for every clip
(filename, identity), for `visavox corpora ... --groups`; SHEETS gets a picture of each group, to be looked at before it is
believed. --keep DIR keeps the embeddings, so that a run that was killed goes on. Needs the packages with the networks: pip
install 'visavox[identity]'; pip install --no-deps resemblyzer.
Exit codes: 0 done; 1 some clips could not be read; 2 wrong arguments, data or packages; 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visavox import runs
from visavox.files import find_inputs, replacing, shown
from visavox.logs import complain, say

if TYPE_CHECKING:
    import numpy as np

    from visavox.bundle import Bundle

KINDS = ("faces", "voices")
FALSE_MATCH = 0.001
HALVES = (" (first half)", " (second half)")


def main(argv: Sequence[str] | None = None) -> int:
    words = _parse(argv)
    try:
        from visavox.identity import sheets
        from visavox.identity.grouping import calibrated, grouped, pairs

        kinds = [kind for kind in KINDS if getattr(words, kind)]
        judges = {kind: _loaded(kind) for kind in kinds}
        failed: list[str] = []
        thresholds = {kind: getattr(words, f"{kind}_threshold") for kind in kinds}
        if words.named:
            inputs = find_inputs(words.named, {".npz"})
            people = _names(words.named, words.names, list(inputs))
            vectors, failed = embedded(inputs, judges, words.keep, halves=words.halves)
            people |= {f"{name}{half}": who for name, who in people.items() for half in HALVES if words.halves}
            for kind in kinds:
                errors = calibrated(vectors[kind], people, words.false_match)
                say(f"{kind} of {len(vectors[kind])} named {'halves' if words.halves else 'clips'}, {errors}")
                if thresholds[kind] is None:
                    thresholds[kind] = errors.threshold
        if not words.input:
            return int(bool(failed))
        inputs = find_inputs(words.input, {".npz"})
        vectors, more = embedded(inputs, judges, words.keep)
        failed += more
        groups = {kind: grouped(vectors[kind], _threshold(kind, thresholds[kind])) for kind in kinds}
        write(words.output, inputs, groups, words.prefix or words.input.resolve().name.replace(";", ","))
        for kind in kinds:
            say(_said(kind, groups[kind], len(vectors[kind]), len(inputs)))
            if words.named == words.input:
                both, joined, same = pairs(groups[kind], people, list(vectors[kind]))
                say(
                    f"{kind}: of {joined} pairs in one group {both} are of one person, of {same} pairs of one person in all"
                )
        if words.sheets:
            for kind in kinds:
                for number, group in enumerate(groups[kind], 1):
                    sheets.save(words.sheets / f"{kind}_{number:04d}.png", {name: inputs[name] for name in group})
            say(f"{words.sheets}: a sheet for each group; look at them before the groups are used")
        say(f"{words.output}: visavox corpora ... --groups {words.output}")
    except KeyboardInterrupt as stop:
        say("interrupted; with --keep the same command goes on where it stopped", error=True)
        return runs.exit_code(stop)
    except (ValueError, RuntimeError, OSError) as error:
        complain("visavox groups", error)
        return 2
    return int(bool(failed))


def embedded(
    inputs: Mapping[str, Path],
    judges: Mapping[str, Callable[[Bundle], np.ndarray | None]],
    keep: Path | None = None,
    *,
    halves: bool = False,
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """Embed clips.

    Args:
        inputs: name -> bundle.
        judges: kind -> what gives the vector (D,) of a bundle, or None.
        keep: folder of embeddings that are there already; new ones are put there.
        halves: embed the two halves of each clip, named NAME and one of HALVES.

    Returns:
        Kind -> name -> vector, of the clips that have one; and the names of those that could not be read.
    """
    from visavox.bundle import Bundle, BundleError
    from visavox.identity import kept
    from visavox.progress import progress

    found: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in judges}
    failed = []
    with progress("clips", len(inputs)) as advance:
        for name, path in inputs.items():
            try:
                bundle: Bundle | None = None
                for kind, judge in judges.items():
                    for part in HALVES if halves else ("",):
                        place = kept.place(keep, path, f"{kind}{part}")
                        known = kept.read(place)
                        if known is None:
                            bundle = bundle or Bundle.load(path)
                            known = kept.write(place, judge(_part(bundle, part)))
                        if len(known):
                            found[kind][f"{name}{part}"] = known
            except BundleError as error:
                failed.append(name)
                say(f"{shown(name)}: {error}", error=True)
            advance()
    return found, failed


def write(
    path: Path, names: Sequence[str] | Mapping[str, Path], groups: Mapping[str, Sequence[Sequence[str]]], prefix: str
) -> None:
    """Write the table: a row for every clip with the groups that it is in, none where it is like no other."""
    members: dict[str, list[str]] = {name: [] for name in names}
    for kind, found in groups.items():
        for number, group in enumerate(found, 1):
            for name in group:
                members[name].append(f"{prefix}:{kind.removesuffix('s')} {number}")
    with replacing(path) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", "identity"])
        writer.writerows([name, ";".join(identities)] for name, identities in members.items())


def _part(bundle: Bundle, part: str) -> Bundle:
    """Return one of the HALVES of a bundle, or all of it for ""."""
    middle = bundle.track_frames // 2
    if not part or middle == 0:
        return bundle
    return bundle.slice(0, middle) if part == HALVES[0] else bundle.slice(middle, bundle.track_frames)


def _loaded(kind: str) -> Callable[[Bundle], np.ndarray | None]:
    if kind == "faces":
        from visavox.identity.faces import Faces

        return Faces.load()
    from visavox.identity.voices import Voices

    return Voices.load()


def _threshold(kind: str, given: float | None) -> float:
    from visavox.identity.faces import THRESHOLD
    from visavox.identity.grouping import IdentityError

    if given is not None:
        return given
    if kind == "faces":
        say(f"faces: the published threshold {THRESHOLD} is used; --named calibrates one")
        return THRESHOLD
    raise IdentityError(
        "nobody publishes a threshold for voices: calibrate one with --named DIR, or give --voices-threshold"
    )


def _names(root: Path, table: Path | None, names: Sequence[str]) -> dict[str, str]:
    """Return who each bundle shows: by a table, or by the folder below real/ or fake/."""
    from visavox.identity.grouping import IdentityError

    if table is None:
        from visavox.corpora.folder import read_folder

        rows = read_folder(root)
        if "source" not in rows:
            raise IdentityError(
                f"{root}: no folders of people below real/ or fake/; give --names CSV with filename,identity"
            )
        return dict(zip(rows["bundle"], rows["source"]))
    from visavox.splits.names import match
    from visavox.splits.text_table import read_text_table

    listed = read_text_table(table, ("filename", "identity"), IdentityError)
    lines, _ = match(names, listed["filename"].tolist())
    return {name: listed["identity"].iloc[line] for name, line in zip(names, lines) if line >= 0}


def _said(kind: str, groups: Sequence[Sequence[str]], known: int, clips: int) -> str:
    inside = sum(map(len, groups))
    largest = f", the largest of {len(groups[0])}" if groups else ""
    lost = f"; {clips - known} without {kind.removesuffix('s')}" if known < clips else ""
    return f"{kind}: {inside} of {clips} clips in {len(groups)} groups{largest}; {known - inside} like no other{lost}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visavox groups", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, nargs="?", metavar="BUNDLES", help="folder that visavox crop wrote")
    parser.add_argument("--faces", action="store_true", help="compare faces")
    parser.add_argument("--voices", action="store_true", help="compare voices")
    parser.add_argument("--output", type=Path, metavar="CSV", help="table to write")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="a contact sheet of each group")
    parser.add_argument(
        "--named", type=Path, metavar="DIR", help="bundles of people with names, to calibrate thresholds on"
    )
    parser.add_argument("--names", type=Path, metavar="CSV", help="their names: filename,identity")
    parser.add_argument(
        "--halves",
        action="store_true",
        help="of NAMED compare halves of clips, where most people have one clip only: kinder than clips of different days",
    )
    parser.add_argument(
        "--false-match",
        type=float,
        default=FALSE_MATCH,
        metavar="SHARE",
        help=f"of pairs of two people (default {FALSE_MATCH})",
    )
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}-threshold", type=float, metavar="D", help=f"largest distance of {kind} of one person"
        )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep embeddings here, and take them from here")
    parser.add_argument("--prefix", metavar="NAME", help="of the identities (default: the name of BUNDLES)")
    words = parser.parse_args(argv)
    if not (words.faces or words.voices):
        parser.error("say what to compare: --faces, --voices or both")
    if not (words.input or words.named):
        parser.error("give BUNDLES to group, or --named DIR to calibrate on")
    if words.input and not words.output:
        parser.error("--output CSV: where to write the groups")
    if ";" in (words.prefix or ""):
        parser.error(f"--prefix {words.prefix}: without a semicolon, which stands between identities")
    if not 0 <= words.false_match < 1:
        parser.error(f"--false-match {words.false_match}: a share from 0 to below 1")
    return words
