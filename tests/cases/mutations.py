"""Seeded changes of files: bytes, lines and cells of tables, values of JSON. Each gives what a slip, a bad disk or somebody's
program may have made of a sound file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

ODD_TEXT = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b'""', b"\n\n", b"\r", b",,,,", b";", b"\t", b"1e999", b"-1", b"NaN",
    b"Infinity", b"{", b"]", b"\\", b"\xc3", b"9" * 5000, b"[" * 3000, b"=1+1", b"../../x", b"null", b"True",
)  # fmt: skip
ODD_VALUES = (
    None, True, "", "x", "1e3", -1, 0, 1.5, 10**400, 1e308, float("nan"), float("inf"), [], [1, "a"], {}, {"a": {}}, "\0",
    "9" * 5000,
)  # fmt: skip


def changed_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Single bytes changed, a run moved, left out or doubled, odd text put in, or the end cut off."""
    if not data:
        return b"x"
    at, until = sorted(int(i) for i in rng.integers(0, len(data) + 1, 2))
    until = min(until, at + 2000)
    kind = int(rng.integers(6))
    if kind == 0:
        array = np.frombuffer(data, np.uint8).copy()
        some = rng.integers(0, len(data), int(rng.integers(1, 20)))
        array[some] = rng.integers(0, 256, len(some), np.uint8)
        return array.tobytes()
    if kind == 1:
        return data[:at] + data[until:]
    if kind == 2:
        return data[:until] + data[at:until] + data[until:]
    if kind == 3:
        return data[:at] + ODD_TEXT[int(rng.integers(len(ODD_TEXT)))] + data[at:]
    if kind == 4:
        return data[:at]
    return data[:at] + data[at:until][::-1] + data[until:]


def changed_table(data: bytes, rng: np.random.Generator) -> bytes:
    """As `changed_bytes`, or a cell replaced, a column or a line left out, doubled or moved."""
    if rng.random() < 0.5:
        return changed_bytes(data, rng)
    rows = [line.split(b",") for line in data.split(b"\n")]
    line = int(rng.integers(len(rows)))
    column = int(rng.integers(len(rows[0])))
    kind = int(rng.integers(5))
    if kind == 0 and column < len(rows[line]):
        rows[line][column] = ODD_TEXT[int(rng.integers(len(ODD_TEXT)))]
    elif kind == 1:
        rows = [row[:column] + row[column + 1 :] for row in rows]
    elif kind == 2:
        rows = [row[column : column + 1] + row for row in rows]
    elif kind == 3:
        rows.insert(int(rng.integers(len(rows))), rows[line])
    else:
        rows = [rows[i] for i in rng.permutation(len(rows))]
    return b"\n".join(b",".join(row) for row in rows)


def changed_value(value: Any, rng: np.random.Generator) -> Any:
    """A copy of a JSON value in which one value, however deep, is another one, is left out, or has a stranger beside it."""
    value = copy.deepcopy(value)
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return value
        key = keys[int(rng.integers(len(keys)))]
        inside = place[key]
        if isinstance(inside, dict | list) and inside and rng.random() < 0.8:
            place = inside
            continue
        kind = int(rng.integers(5))
        if kind == 0:
            del place[key]
        elif kind == 1 and isinstance(place, dict):
            place[f"{key}x"] = place.pop(key)
        elif kind == 2 and isinstance(inside, int | float) and not isinstance(inside, bool):
            place[key] = type(inside)(inside * float(rng.choice([-1.0, 0.0, 1e3, 1e7, 1.37])))
        else:
            place[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
        return value


def changed_json(data: bytes, rng: np.random.Generator) -> bytes:
    """As `changed_bytes`, or one of the values another."""
    if rng.random() < 0.3:
        return changed_bytes(data, rng)
    return json.dumps(changed_value(json.loads(data), rng)).encode()


def changed_checkpoint(source: Path, target: Path, rng: np.random.Generator) -> None:
    """Write a copy of a checkpoint with its bytes changed, or with another value in its config, or other parameters."""
    kind = int(rng.integers(4))
    if kind == 0:
        target.write_bytes(changed_bytes(source.read_bytes(), rng))
        return
    content = torch.load(source, weights_only=True)
    state = content["state_dict"]
    name = list(state)[int(rng.integers(len(state)))]
    if kind == 1:
        content["hyper_parameters"] = changed_value(content["hyper_parameters"], rng)
    elif kind == 2:
        held = content["hyper_parameters"]["config"]
        held["detector"] = changed_value(held["detector"], rng)
    else:
        others = [
            lambda: state.pop(name),
            lambda: state.update({f"{name}.more": torch.zeros(2)}),
            lambda: state.update({name: torch.zeros(*state[name].shape, 2)}),
            lambda: state.update({name: torch.full(state[name].shape, float("nan"))}),
            lambda: state.update({name: torch.ones(state[name].shape, dtype=torch.int16)}),
            lambda: state.update({name: [1, 2, 3]}),
            lambda: content.pop("state_dict"),
            lambda: content.update(state_dict=[]),
            lambda: content.update(state_dict={}),
            lambda: content.update(hyper_parameters=None),
            lambda: content["hyper_parameters"].update(about=[1]),
            lambda: content["hyper_parameters"].update(config=[]),
        ]
        others[int(rng.integers(len(others)))]()
    torch.save(content, target)
