"""What a bundle was made with: the hash over settings and weights."""

from __future__ import annotations

import hashlib
import json

from visavox import weights
from visavox.bundle.schema import Bundle, Stamp
from visavox.config import Config
from visavox.files import parse_json


def weights_of(config: Config) -> list[str]:
    """Registry names of the weights that cropping with these settings uses."""
    used: list[str] = [] if config.face_detector == "haar" else [config.face_detector]
    return used + (["syncnet_v2"] if config.sync == "syncnet" else [])


PREP_VERSION = 5
"""Raised by hand when preprocessing gives other numbers for the same settings; it enters prep_hash."""


def prep_hash(config: Config) -> str:
    """16 hex digits over PREP_VERSION, every setting that crop.py reads, and the sha256 of the weights it uses."""

    used = {name: weights.fingerprint(name) for name in weights_of(config)}
    facts = {"version": PREP_VERSION, **config.prep(), "weights": used}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def differing_settings(bundle: Bundle | Stamp, config: Config) -> str:
    """What a bundle was made with that the configuration says otherwise: `sync: correlation there, syncnet here; ...`."""
    try:
        there, here = dict(parse_json(bundle.settings)), config.prep()
    except (ValueError, TypeError):
        return "settings that nobody can read"
    names = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
    return (
        "; ".join(f"{name}: {there.get(name)} there, {here.get(name)} here" for name in names)
        or "other weights or version"
    )
