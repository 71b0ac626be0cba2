"""Read, override and explain the configuration."""

import difflib
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from visavox.config.base import Settings
from visavox.config.schema import Config, ConfigError
from visavox.config.timesformer import TimeSformerSyncNetConfig
from visavox.files import CHECKOUT, excerpt, parse_json

INSIDE = Path(__file__).resolve().parents[1] / "configs"
"""Where the wheel holds what lies in `configs/` and beside it in a checkout."""


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a JSON configuration and apply `key=value` words to it.

    Args:
        path: JSON file, or the name of a configuration that comes with Visavox (`tiny`, `anomaly`, ...); None starts from the
            defaults.
        overrides: `lr=1e-3`, `detector.num_layers=4`, `face_detector=haar`; values are JSON, or else plain strings.

    Raises:
        ConfigError: lists every unknown key (with the nearest name), wrong type and value out of range.
    """
    values = {} if path is None else _read(find(path))
    return from_dict(_apply(values, overrides), source="defaults" if path is None else str(path))


def find(path: str | Path) -> Path:
    """Return the file that a path or a name stands for: a file of the user's comes before one that Visavox ships.

    Raises:
        ConfigError: there is no such file; names those that are shipped.
    """
    if Path(path).is_file():
        return Path(path)
    known = shipped()
    name = Path(path).name.removesuffix(".json")
    if Path(path).parent in (Path(), Path("configs")) and name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"those that come with Visavox are {', '.join(known)}"
    raise ConfigError(f"{path}: no such file; {hint}")


def shipped() -> dict[str, Path]:
    """Return the configurations that come with Visavox: name -> file, in the checkout or inside the installed package."""
    folder = CHECKOUT / "configs" if (CHECKOUT / "configs").is_dir() else INSIDE
    return {"config": reference()} | {path.stem: path for path in sorted(folder.glob("*.json"))}


def reference() -> Path:
    """Return the reference settings: the checkout's config.json, or without a checkout the copy inside the package."""
    return CHECKOUT / "config.json" if (CHECKOUT / "config.json").is_file() else INSIDE / "config.json"


def from_dict(values: dict[str, Any], source: str = "configuration") -> Config:
    """Validate plain values, those of a JSON file or of a checkpoint.

    Raises:
        ConfigError: as `load`; names `source`.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected an object of settings, found {type(values).__name__}")
    if isinstance(detector := values.get("detector"), dict):  # settings without a name are the reference detector's
        values = values | {"detector": {"name": TimeSformerSyncNetConfig().name} | detector}
    try:
        return Config.model_validate_json(json.dumps(values))
    except ValidationError as error:
        faults = "\n".join(f"  - {_explain(fault)}" for fault in error.errors())
        raise ConfigError(f"{source}: {error.error_count()} fault(s)\n{faults}") from None


def help_text(model: type[Settings] = Config, prefix: str = "", width: int = 110) -> str:
    """One paragraph per key: `name=default  help`, for `--help`."""
    lines = []
    for name, field in model.model_fields.items():
        groups = _groups(field)
        if groups:
            lines.append(f"  {prefix}{name}: {field.description}")
        for group in groups:
            if len(groups) > 1:
                lines.append(f"  {prefix}{name}.name={json.dumps(_tag(group))}: {group.__doc__}")
            lines.append(help_text(group, f"{prefix}{name}.", width))
        if groups:
            continue
        start = f"  {prefix}{name}={json.dumps(field.default)}"
        text = textwrap.fill(field.description or "", width, initial_indent=" " * 6, subsequent_indent=" " * 6)
        lines.append(f"{start}\n{text}")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}; correct it there, or start from a shipped one") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object of settings, found {type(values).__name__}")
    return values


def _apply(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    values = json.loads(json.dumps(values))
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is not an override; write key=value, for example lr=1e-3")
        *parents, leaf = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{word!r}: {parent} is not a group of settings")
        try:
            place[leaf] = parse_json(text)
        except ValueError:
            place[leaf] = text
    return values


def _explain(fault: Any) -> str:
    path = _settings_path(fault["loc"])
    key = ".".join(path)
    if fault["type"] == "extra_forbidden":
        names = _names_beside(fault["loc"])
        near = difflib.get_close_matches(path[-1], names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(names))}"
        return f"{excerpt(key)}: no such key; {hint}"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return message
    return f"{excerpt(key)}: {excerpt(message, 1000)}, found {excerpt(repr(fault['input']))}"


def _groups(field: Any) -> list[type[Settings]]:
    """The settings that a field may hold: one group, the members of a union, or none."""
    kinds = get_args(field.annotation) or (field.annotation,)
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)]


def _tag(group: type[Settings]) -> str:
    """Return the name that tells a group of a union from its siblings."""
    return group.model_fields["name"].default


def _settings_path(loc: Sequence[Any]) -> list[str]:
    """pydantic's path to a fault without the union's tag: (detector, xception_video, size) -> detector.size."""
    path: list[str] = []
    model: type[Settings] = Config
    parts = [str(part) for part in loc]
    while parts:
        path.append(parts.pop(0))
        field = model.model_fields.get(path[-1])
        groups = _groups(field) if field else []
        if len(groups) > 1 and parts:
            tag = parts.pop(0)
            groups = [group for group in groups if _tag(group) == tag]
        if not groups:
            return path + parts
        model = groups[0]
    return path


def _names_beside(loc: Sequence[Any]) -> list[str]:
    """The keys that stand beside a fault's."""
    model: type[Settings] = Config
    parts = [str(part) for part in loc[:-1]]
    while parts:
        groups = _groups(model.model_fields[parts.pop(0)])
        tag = parts.pop(0) if len(groups) > 1 else None
        model = next(group for group in groups if tag in (None, _tag(group)))
    return list(model.model_fields)
