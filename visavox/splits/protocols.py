"""How the clips of a corpus are shared out to train, val and test.

group_out   whole connected groups: nobody anywhere near a test clip is in train; no clip is dropped
kfold       the same in K parts: one is the test, the next is val
partition   identities are split, clips that cross are dropped, and counted
official    as published, refused where somebody crosses
compat      as published whatever crosses, for comparison with papers; marked in every row
lomo        group_out, and one manipulation is left out of train and val and is all the test holds besides real clips
"""

from __future__ import annotations

import random
import warnings
from collections import Counter, defaultdict

import numpy as np
import pandas as pd

from visavox.splits.groups import borrowed, find_leak, group_of, homes, identities, picture_faked
from visavox.splits.table import SPLITS, SplitError

PROTOCOLS = ("group_out", "kfold", "partition", "official", "compat", "lomo")


def share_out(
    rows: pd.DataFrame,
    protocol: str,
    *,
    val: float,
    test: float,
    seed: int,
    folds: int = 5,
    fold: int = 0,
    leave: str = "",
) -> tuple[pd.DataFrame, list[str]]:
    """Fill the column `split`.

    Args:
        rows: one clip each, columns filename, label, split (as published, or ""), source, donors, content, race, gender.
        val, test: shares of the clips (group_out) or of the identities (partition without a published split).
        folds, fold: of kfold.
        leave: of lomo, the `method` that is left out of training.

    Returns:
        The clips that stay, their columns `split` and `protocol` filled, and what happened, in words.

    Raises:
        SplitError: the protocol does not fit this corpus; says which does.
    """
    said = []
    if protocol in ("group_out", "lomo"):
        rows = assign_groups(rows.assign(group=group_of(rows)), val=val, test=test, seed=seed)
        said.append(f"{rows['group'].nunique()} connected groups, none of them in two splits")
        if protocol == "lomo":
            rows, dropped = leave_out(rows, leave)
            said.append(dropped)
    elif protocol == "kfold":
        rows = _fold(rows.assign(group=group_of(rows)), folds=folds, fold=fold, seed=seed)
        said.append(f"fold {fold} of {folds}: {rows['group'].nunique()} connected groups, none of them in two splits")
    else:
        published = rows["split"].ne("")
        if not published.all() and (published.any() or protocol != "partition"):
            _need_published(published, protocol)
            said.append(f"{(~published).sum()} clips have no published split and are left out")
            rows = rows[published]
        if protocol == "partition":
            rows, more = _partition(rows, val=val, test=test, seed=seed)
        else:
            more = _as_published(rows, protocol)
        said += more
    return rows.assign(protocol=protocol), said


def leave_out(rows: pd.DataFrame, value: str, column: str = "method") -> tuple[pd.DataFrame, str]:
    """Keep the fakes of one manipulation for the test, and no others there: what is tested was never trained on.

    Args:
        rows: split already, columns split, label (number or text) and `column`.

    Returns:
        The clips that stay, and how many do not, in words. Real clips all stay.

    Raises:
        SplitError: there is no such manipulation among the fakes of the test, or training keeps no fake.
    """
    if column not in rows:
        raise SplitError(f"there is no column {column} that names manipulations; found {', '.join(rows.columns)}")
    fake = rows["label"].astype(str).isin(["1", "1.0", "fake"])
    own, test = rows[column].astype(str) == value, rows["split"] == "test"
    known = ", ".join(sorted(set(rows.loc[fake, column].astype(str)) - {"", "-"}))
    if not (fake & own & test).any():
        raise SplitError(f"no fake of the test has {column}={value!r}; its fakes are of {known}")
    if not (fake & ~own & (rows["split"] == "train")).any():
        raise SplitError(f"without {column}={value!r} no fake is left to train on; its fakes are of {known}")
    stays = ~fake | (own == test)
    return rows[
        stays
    ], f"{column}={value} is left out of train and val; {int((~stays).sum())} fakes are in neither and dropped"


def assign_groups(rows: pd.DataFrame, *, val: float, test: float, seed: int) -> pd.DataFrame:
    """Fill `split`: whole groups, each kind of clip (column kind, else label) shared out as `val` and `test` ask.

    The largest group goes first, to the split that lacks most of what it holds; groups of equal size in an order drawn
    from `seed`.
    """
    shares = {"train": 1 - val - test, "val": val, "test": test}
    shares = {split: share for split, share in shares.items() if share > 1e-9}
    groups = _group_sizes(rows)
    if len(groups) < len(shares):
        raise SplitError(
            f"{len(rows)} clips hang together in {len(groups)} group(s), too few for {len(shares)} splits; "
            "use --by file if the folders are not identities, --protocol partition if they are, or fewer splits (--test 0)"
        )
    chosen = _deal(groups, shares, seed)
    return rows.assign(split=[chosen[group] for group in rows["group"]])


def _fold(rows: pd.DataFrame, *, folds: int, fold: int, seed: int) -> pd.DataFrame:
    groups = _group_sizes(rows)
    if not (folds >= 3 and 0 <= fold < folds):
        raise SplitError(
            f"--folds {folds} --fold {fold}: at least 3 folds, numbered from 0; one is test, the next is val"
        )
    if len(groups) < folds:
        raise SplitError(
            f"{len(groups)} connected group(s) do not fill {folds} folds; use --folds {len(groups)} or fewer"
        )
    most = sum(groups.values(), Counter()).most_common(1)[0][1]
    if most < folds:
        raise SplitError(f"no kind of clip has {folds} clips for {folds} folds; use --folds {most} or fewer")
    part = _fold_of(rows, folds, seed)
    role = {fold: "test", (fold + 1) % folds: "val"}
    return rows.assign(split=[role.get(k, "train") for k in part])


def _fold_of(rows: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Return the fold of each clip, (N,) int: groups stay whole, kinds of clips are shared out alike."""

    from sklearn.model_selection import StratifiedGroupKFold

    kinds = (rows["kind"] if "kind" in rows else rows["label"]).astype(str).to_numpy(str)
    part = np.zeros(len(rows), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # a rare kind is no fault
        splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(kinds, kinds, rows["group"])
        for k, (_, members) in enumerate(splits):
            part[members] = k
    return pd.Series(part, index=rows.index)


def _group_sizes(rows: pd.DataFrame) -> dict[str, Counter]:
    """Count the clips of each kind in each group: group -> kind -> clips."""
    groups: dict[str, Counter] = defaultdict(Counter)
    for group, kind in zip(rows["group"], rows["kind"] if "kind" in rows else rows["label"]):
        groups[group][kind] += 1
    return groups


def _deal(groups: dict[str, Counter], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Deal whole groups to parts, greedily as `assign_groups` says: group -> part."""
    totals: Counter = sum(groups.values(), Counter())
    have: dict[str, Counter] = {part: Counter() for part in shares}
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: -groups[group].total())
    chosen = {}
    for group in order:
        holds = groups[group]

        def lack(part: str, holds: Counter = holds) -> float:
            """Share of its goal that a part still lacks, averaged over the clips of the group."""
            return sum(n * (1 - have[part][kind] / (shares[part] * totals[kind])) for kind, n in holds.items())

        chosen[group] = max(shares, key=lack)
        have[chosen[group]] += holds
    return chosen


def _partition(rows: pd.DataFrame, *, val: float, test: float, seed: int) -> tuple[pd.DataFrame, list[str]]:
    """Keep the clips whose identities all live in the split of the clip; say how many do not."""
    drawn = not rows["split"].ne("").any()
    if drawn:
        rows = _draw_sources(rows, val=val, test=test, seed=seed)
    home = homes(rows)
    stays = [all(home[name] == split for name in who) for who, split in zip(identities(rows), rows["split"])]
    kept = rows[stays]
    fakes, left = int(picture_faked(rows).sum()), int(picture_faked(kept).sum())
    counts = Counter(home[name] for name in set(rows["source"]))
    split = "/".join(str(counts[name]) for name in SPLITS)
    said = [
        f"identities {'drawn' if drawn else 'as published'}, {split} in {'/'.join(SPLITS)}",
        f"{len(rows) - len(kept)} of {len(rows)} clips cross between them and are dropped; of those with a faked picture "
        f"{fakes - left} of {fakes}",
    ]
    return kept, said + _per_category(rows, kept)


def _draw_sources(rows: pd.DataFrame, *, val: float, test: float, seed: int) -> pd.DataFrame:
    """Put each clip in the split that was drawn for whom it shows; every race and gender is shared out alike."""
    strata: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for source, race, gender in zip(rows["source"], rows["race"], rows["gender"]):
        strata[race, gender][source] = None
    chosen: dict[str, str] = {}
    for stratum in sorted(strata):
        people = sorted(strata[stratum].keys() - chosen.keys())
        random.Random(f"{seed} {stratum}").shuffle(people)
        tests, vals = round(len(people) * test), round(len(people) * val)
        for place, name in enumerate(people):
            chosen[name] = "test" if place < tests else "val" if place < tests + vals else "train"
    return rows.assign(split=[chosen[source] for source in rows["source"]])


def _per_category(rows: pd.DataFrame, kept: pd.DataFrame) -> list[str]:
    """Say `test keeps A 151 of 151, C 1005 of 3095`, where the corpus has categories."""
    if not rows["category"].ne("").any():
        return []
    before, after = (table.groupby(["split", "category"]).size() for table in (rows, kept))
    return [
        f"{split} keeps "
        + ", ".join(f"{name} {after.get((split, name), 0)} of {n}" for name, n in before[split].items() if name)
        for split in SPLITS
        if split in before
    ]


def _need_published(published: pd.Series, protocol: str) -> None:
    if not published.any():
        raise SplitError(
            f"--protocol {protocol} needs a published split, and this corpus's metadata has none; give --published CSV "
            "if the corpus has that option, or use --protocol group_out"
        )


def _as_published(rows: pd.DataFrame, protocol: str) -> list[str]:
    leak = find_leak(rows)
    if leak is None:
        return ["published split, nobody in two of its parts"]
    if protocol == "official":
        raise SplitError(
            f"the published split leaks: {leak}; use --protocol partition (drops the clips that cross) or group_out, "
            "or compat to compare with papers that used it"
        )
    said = [f"warning: this published split leaks: {leak}; train.py wants --allow-leaks for it"]
    some, of = borrowed(rows)
    if some:
        said.append(
            f"warning: {some} of {of} test clips with a faked picture ({some / of:.1%}) borrow from an identity "
            "that occurs in train"
        )
    return said
