"""A recipe that grows part by part and is valid after each of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final

from feeds.importing.conditions import Table, all_of
from feeds.importing.ledger import Ledger
from feeds.importing.toml_text import write_recipe
from feeds.recipes.fields import InvalidRecipeError
from feeds.recipes.parsing import parse_recipe
from feeds.recipes.recipe import (
    MAX_DESCRIPTION_CHARS,
    MAX_NAME_CHARS,
    MAX_TITLE_CHARS,
)
from protocol.data.graphemes import cut_text

_NAME: Final = re.compile(r"[^a-z0-9]+")
UNTITLED: Final = "Imported feed"


class RecipeDraft:
    """The tables of a recipe. A part that makes it invalid is noted and left out."""

    def __init__(self, ledger: Ledger, title: object, description: object) -> None:
        self._ledger = ledger
        title = _text(title, MAX_TITLE_CHARS) or UNTITLED
        self.table: Table = {"name": make_name(title), "title": title}
        if text := _text(description, MAX_DESCRIPTION_CHARS):
            self.table["description"] = text
        self.table |= {"source": [{"everything": True}], "filter": {}, "rank": {}}

    def change(self, path: str, change: Callable[[Table], None]) -> bool:
        """Apply a change if the recipe stays valid; return True if it does."""
        tried = deepcopy(self.table)
        try:
            change(tried)
            parse_recipe(write_recipe(tried))
        except InvalidRecipeError as error:
            self._ledger.leave_out_below(path, f"it does not fit: {error.reason}")
            return False
        self.table = tried
        return True

    def set(self, path: str, values: Mapping[str, Any]) -> bool:
        """Set keys of the recipe."""
        return self.change(path, lambda table: table.update(values))

    def rank(self, path: str, values: Mapping[str, Any]) -> bool:
        """Set keys of the order."""
        return self.change(path, lambda table: table["rank"].update(values))

    def add_filter(self, path: str, condition: Table) -> bool:
        """Let a further condition on the text hold."""

        def add(table: Table) -> None:
            table["filter"] = all_of([table["filter"], condition])

        return self.change(path, add)

    def add_live(self, path: str, condition: Table) -> bool:
        """Let a further condition hold that is checked with each request."""

        def add(table: Table) -> None:
            for key, value in condition.items():
                known = table["filter"].get(key)
                if known is None or known == value:
                    table["filter"][key] = value
                elif key.startswith("not_"):
                    table["filter"][key] = [*dict.fromkeys([*known, *value])]
                elif key.startswith("min_"):
                    table["filter"][key] = max(known, value)
                elif key.startswith("max_") and isinstance(value, int):
                    table["filter"][key] = min(known, value)
                else:
                    raise InvalidRecipeError(f"{key} can stand only once")

        return self.change(path, add)


def make_name(title: str) -> str:
    """Return the record key of a title."""
    plain = unicodedata.normalize("NFKD", title).lower()
    return _NAME.sub("-", plain)[:MAX_NAME_CHARS].strip("-") or "imported"


def _text(value: object, most: int) -> str:
    if not isinstance(value, str):
        return ""
    clean = "".join(c for c in value if c.isprintable() or c == "\n").strip()
    return cut_text(clean, graphemes=most, size=10 * most).strip()
