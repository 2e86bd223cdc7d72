"""Parts of records that views pass on, if they fit their lexicon."""

from __future__ import annotations

from functools import cache
from typing import Any

from protocol.data.cbor import Value
from protocol.data.json_form import to_json
from protocol.errors import ProtocolError
from protocol.lexicon import Catalog

FACET = "app.bsky.richtext.facet"
ASPECT_RATIO = "app.bsky.embed.defs#aspectRatio"
POLICIES = "app.bsky.labeler.defs#labelerPolicies"
STRONG_REF = "com.atproto.repo.strongRef"


@cache
def load_catalog() -> Catalog:
    """Return the official lexicons, read once, before the first answer."""
    return Catalog.load()


def fits(definition: str, value: Value) -> bool:
    """Return True if a value is valid by a definition of the official lexicons."""
    try:
        load_catalog().validate(definition, value)
    except ProtocolError:
        return False
    return True


def part_of(record: dict[str, Value], field: str, definition: str) -> Any | None:
    """Return the JSON of a field, or None if it is absent or not valid."""
    value = record.get(field)
    if value is None or not fits(definition, value):
        return None
    return to_json(value)


def list_of(record: dict[str, Value], field: str, definition: str) -> Any | None:
    """Return the JSON of a list without its invalid items; None if it is no list."""
    items = record.get(field)
    if not isinstance(items, list):
        return None
    return [to_json(item) for item in items if fits(definition, item)]
