"""What all sections of configuration files have in common: frozen, unknown keys refused, units in the names."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
OffIsAWord = BeforeValidator(lambda value: "off" if value is False else value)
"""YAML 1.1 reads the word off as false."""


class Section(BaseModel):
    """A part of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Named(Section):
    """A file of its own, called after its name."""

    name: Name
