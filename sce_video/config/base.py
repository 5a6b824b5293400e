"""The base of all sections, and the ranges their keys share."""

from __future__ import annotations

import typing
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
