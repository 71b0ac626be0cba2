"""The settings of each detector: `detector.KEY` of the configuration, told apart by `detector.name`."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Tunable:
    """Marks a setting of a detector that may still be chosen when a trained network is loaded."""


Tunable = _Tunable()


class Settings(BaseModel):
    """A closed, frozen group of settings; the docstring under a field is its help."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,  # so that a default of 16 and a 16 that was written down hash alike
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """What the detector tells apart beside real and fake, in the order of its outputs; empty for real and fake."""
        return ()

    def fixed(self, prefix: str = "") -> dict[str, Any]:
        """Return what must stay as it was in training, `prefix` before each key: every field not marked `Tunable`.

        The fields of a group within the group are listed under dotted keys, `video.size`.
        """
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if Tunable in field.metadata:
                continue
            value = getattr(self, name)
            found |= value.fixed(f"{prefix}{name}.") if isinstance(value, Settings) else {f"{prefix}{name}": value}
        return found
