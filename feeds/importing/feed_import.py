"""Import of a feed from the file of another service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from feeds.importing.graze_manifest import read_manifest
from feeds.importing.graze_values import ResolveHandle
from feeds.importing.ledger import Entry, Ledger, Result
from feeds.importing.skyfeed_blocks import read_blocks
from feeds.importing.toml_text import write_recipe
from feeds.recipes.parsing import parse_recipe

MAX_IMPORT_BYTES: Final = 1_000_000


class InvalidImportError(ValueError):
    """The file is no feed of a known service; the message says why."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A recipe file, its name, and the parts of the feed that it was made from."""

    service: str
    name: str
    text: str
    entries: tuple[Entry, ...]
    kinds: Mapping[str, Result]

    @property
    def remarks(self) -> list[Entry]:
        """Return the parts that are only roughly in the recipe, or not at all."""
        return [entry for entry in self.entries if entry.result is not Result.EXACT]


def import_feed(text: str, resolve: ResolveHandle = lambda handle: None) -> Imported:
    """Return the recipe of a Graze manifest or of SkyFeed blocks.

    `resolve` finds the accounts of lists that are named by handle. Raises
    InvalidImportError.
    """
    values = _read_json(text)
    ledger = Ledger()
    inner = values.get("manifest")
    if "filter" in values or (isinstance(inner, Mapping) and "filter" in inner):
        service, draft = "Graze", read_manifest(values, ledger, resolve)
    elif "blocks" in values or "skyfeedBuilder" in values:
        service, draft = "SkyFeed", read_blocks(values, ledger, resolve)
    else:
        raise InvalidImportError(
            "neither a manifest of Graze (`filter`) nor blocks of SkyFeed (`blocks`)"
        )
    entries = tuple(ledger.entries)
    if all(entry.result is Result.LEFT_OUT for entry in entries):
        # Such a recipe would serve all posts.
        reasons = "; ".join(map(str, entries[:3])) or "it has no parts"
        raise InvalidImportError(f"a recipe can hold none of its parts: {reasons}")
    text = write_recipe(draft.table, _comments(service, entries))
    return Imported(service, parse_recipe(text).name, text, entries, ledger.kinds())


def _read_json(text: str) -> dict[str, Any]:
    if len(text) > MAX_IMPORT_BYTES:
        raise InvalidImportError(f"the file is over {MAX_IMPORT_BYTES} bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidImportError(f"the file is not valid JSON: {error}") from None
    if isinstance(values, list):
        values = {"blocks": values}
    # Records as getRecord and exports return them.
    if isinstance(values, dict) and isinstance(values.get("value"), dict):
        values = values["value"]
    if not isinstance(values, dict):
        raise InvalidImportError("the file holds no object")
    return values


def _comments(service: str, entries: tuple[Entry, ...]) -> list[str]:
    remarks = [entry for entry in entries if entry.result is not Result.EXACT]
    lines = [f"Imported from {service}: {len(entries)} parts."]
    for result in (Result.LEFT_OUT, Result.ROUGH):
        found = [entry for entry in remarks if entry.result is result]
        if found:
            lines += ["", f"{result.capitalize()} ({len(found)}):"]
            lines += [f"  {entry.path}: {entry.reason}" for entry in found[:200]]
    return lines
