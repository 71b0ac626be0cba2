"""A tree of bundles -> split CSV: `[train|val|test/]real|fake/[identity/]clip.npz`, or any tree with a table of labels.

Nobody stands in two splits: clips of one identity folder, real and fake, stay together, and so do clips that a table
of labels joins through the identities they show. Without identities, clips of one name do (real/a.npz and fake/a.npz).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pandas as pd

from visavox.corpora.clip import FACTS
from visavox.files import VIDEO_SUFFIXES
from visavox.preprocessing.manifest import MANIFEST, Manifest
from visavox.splits.groups import components
from visavox.splits.names import match
from visavox.splits.table import COLUMNS, LABELS, MODALITY_LABELS, SPLITS, SplitError
from visavox.splits.text_table import count_and_first, on_lines, read_text_table

CLASSES = {"real": 0, "fake": 1}


def read_folder(
    root: Path, *, by: str = "identity", labels: Path | None = None, label_map: dict[str, int] = LABELS
) -> pd.DataFrame:
    """The clips of a tree, sorted by name.

    Args:
        root: folder of bundles.
        by: what stays together: `identity`, or `file` for folders that are not identities.
        labels: CSV with filename, label and perhaps kind, identity (several joined by `;`), corpus, audio_label and
            video_label instead of folder names.
        label_map: what a label in the table means, those of the sound and the picture included.

    Returns:
        Columns filename, bundle (path below root), label, split ("" where the tree names none), group, kind, identity,
        audio_label and video_label where the table has them, and source and donors where identities are known and kept apart.

    Raises:
        SplitError: no bundles, or bundles without label; the message holds the cure.
    """
    bundles = _find_bundles(root)
    rows = _from_tree(bundles, by) if labels is None else _from_table(bundles, labels, by, label_map)
    if "filename" not in rows:
        sources = _sources(root)
        rows["filename"] = [sources.get(name, name) for name in rows["bundle"]]
    if rows["split"].ne("").any() and rows["split"].eq("").any():
        outside = list(rows.loc[rows["split"].eq(""), "bundle"])
        raise SplitError(
            f"{root}: {len(outside)} bundles lie outside {', '.join(SPLITS)}, others inside: "
            f"{count_and_first(outside)}; move them, or give the root of a single split"
        )
    return rows


def split_table(rows: pd.DataFrame, root: Path, relative_to: Path) -> pd.DataFrame:
    """The rows as a split CSV holds them; bundles below `relative_to` get relative paths, others absolute ones."""

    def place(bundle: str) -> str:
        path, base = Path(root, bundle).resolve(), relative_to.resolve()
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()

    table = rows.assign(filepath=[place(bundle) for bundle in rows["bundle"]])
    return table[[*COLUMNS, *(name for name in (*FACTS, "kind", "identity") if name in table)]]


def _find_bundles(root: Path) -> list[PurePosixPath]:
    """Paths below root of its bundles, sorted."""
    if not root.is_dir():
        raise SplitError(f"{root}: no such folder")
    files = [path for path in root.rglob("*") if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    bundles = sorted(PurePosixPath(path.relative_to(root)) for path in files if path.suffix == ".npz")
    if bundles:
        return bundles
    videos = sum(path.suffix.lower() in VIDEO_SUFFIXES for path in files)
    bundle_root = root.with_name(f"{root.name}_bundles") if root.name != "videos" else root.with_name("bundles")
    raise SplitError(
        f"{root}: holds {videos} videos and no bundles (.npz); run "
        f"`python crop.py --input {root} --output {bundle_root}`, then this command with --root {bundle_root}"
    )


def _from_tree(bundles: list[PurePosixPath], by: str) -> pd.DataFrame:
    rows, astray = [], []
    for bundle in bundles:
        split, folders = _split_and_folders(bundle)
        if not folders or folders[0].lower() not in CLASSES:
            astray.append(str(bundle))
            continue
        label, *below = folders
        if by == "identity":
            group = f"folder {below[0]}" if below else f"name {bundle.stem}"
        else:
            group = f"name {PurePosixPath(*below, bundle.stem)}"
        source = below[0] if by == "identity" and below else ""
        rows.append(
            {"bundle": str(bundle), "label": CLASSES[label.lower()], "split": split, "group": group, "source": source}
        )
    if astray:
        raise SplitError(
            f"{len(astray)} of {len(bundles)} bundles lie neither in real/ nor in fake/: {count_and_first(astray)}; "
            "lay them out as [train|val|test/]real|fake/[identity/]clip.npz, or give --labels CSV"
        )
    table = pd.DataFrame(rows)
    return table if table["source"].ne("").any() else table.drop(columns="source")


def _split_and_folders(bundle: PurePosixPath) -> tuple[str, list[str]]:
    """The split that a path starts with ("" for none), and the folders below it."""
    folders = list(bundle.parts[:-1])
    return (folders.pop(0), folders) if folders and folders[0] in SPLITS else ("", folders)


def _from_table(bundles: list[PurePosixPath], path: Path, by: str, label_map: dict[str, int]) -> pd.DataFrame:
    table = _read_labels(path, label_map)
    lines, _ = match([str(bundle) for bundle in bundles], table["filename"].tolist())
    unknown = [str(bundle) for bundle, line in zip(bundles, lines) if line < 0]
    if unknown:
        raise SplitError(
            f"{path}: {len(unknown)} of {len(bundles)} bundles have no line of their own: {count_and_first(unknown)}; "
            "filename is the video's path below the folder that crop.py was given"
        )
    rows = table.iloc[lines].reset_index(drop=True)
    rows["bundle"] = [str(bundle) for bundle in bundles]
    rows["split"] = [_split_and_folders(bundle)[0] for bundle in bundles]
    identities = rows["identity"] if by == "identity" and "identity" in rows else [""] * len(rows)
    people = [_names(text) for text in identities]
    rows["group"] = components([names or [f"name {bundle}"] for names, bundle in zip(people, rows["bundle"])])
    if any(people):
        rows["source"] = [names[0] if names else "" for names in people]
        rows["donors"] = [";".join(names[1:]) for names in people]
    return rows


def _read_labels(path: Path, label_map: dict[str, int]) -> pd.DataFrame:
    """Return filename, label int, kind, identity, emotion, corpus, audio_label, video_label ("0", "1" or "") where they are."""
    table = read_text_table(path, ("filename", "label"), SplitError)
    for column in ("label", *(name for name in MODALITY_LABELS if name in table)):
        labels = table[column].str.lower().map(label_map)
        wrong = table[column][labels.isna() & ((column == "label") | (table[column] != ""))]
        if len(wrong):
            names = ", ".join(sorted(set(map(repr, wrong))))
            raise SplitError(
                f"{path}: {column} {names} is unknown ({on_lines(wrong.index)}); write 0 for real, 1 for fake"
            )
        table[column] = labels.astype(int) if column == "label" else labels.map({0: "0", 1: "1"}).fillna("")
    return table[
        [
            name
            for name in ("filename", "label", "kind", "identity", "emotion", "corpus", *MODALITY_LABELS)
            if name in table
        ]
    ]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(";") if name.strip()]


def _sources(root: Path) -> dict[str, str]:
    """Bundle below root -> name of its video, as far as crop.py's manifest tells."""
    return {row.bundle: row.input for row in Manifest(root / MANIFEST).rows.values() if row.bundle}
