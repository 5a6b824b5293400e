"""The base of all sections, and the ranges their keys share."""

from __future__ import annotations

import typing
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


LARGEST = (1 << 32) - 1
"""Of every number in a configuration, above and below zero: the largest seed that NumPy takes."""


class Section(BaseModel):
    """Frozen; an unknown key is an error, and so is a number that is not finite or too large."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _in_bounds(cls, value: object) -> object:
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, int | float) and abs(part) > LARGEST:
                raise ValueError(f"the number {part:g} is beyond {LARGEST:,}")
        return value


def key(default: Any, description: str, **limits: Any) -> Any:
    """``Field(default, description=...)``: a key that may be left out, its meaning and unit.

    Of ``Field`` itself mypy would ask ``default=``, and else takes the key for a required one.
    """
    return Field(default, description=description, **limits)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key's annotation stands for, be it ``X | None``; None = a plain value."""
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None
