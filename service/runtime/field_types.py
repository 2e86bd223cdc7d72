"""Types and names that the settings share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AliasChoices, BeforeValidator
from pydantic_settings import NoDecode

PREFIX: Final = "BIGWORLD_"
CHECKOUT: Final = Path(__file__).resolve().parents[2]
"""Folder of `bigworld.toml` and of the default home."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def with_plain_name(field: str) -> AliasChoices:
    """Return BIGWORLD_<FIELD>, which `up` sets for its children, then <FIELD>."""
    return AliasChoices(f"{PREFIX}{field.upper()}", field)
