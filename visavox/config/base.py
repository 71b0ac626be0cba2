"""The settings of each detector: `detector.KEY` of the configuration, told apart by `detector.name`."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,  # so that a default of 16 and a 16 that was written down hash alike
    )
