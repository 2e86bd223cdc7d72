"""Filters of a recipe as tables, joined by and, or and not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

Table = dict[str, Any]

# One value of these lists is enough, so that lists of several filters can be joined.
_ONE_OF: Final = frozenset(
    {"tags", "domains", "languages", "media", "authors", "regex"}
)
# No value of these may hold, so that both lists hold together.
_NONE_OF: Final = frozenset({"not_media", "not_regex", "not_authors", "none"})
_OPPOSITES: Final = {
    "media": "not_media",
    "authors": "not_authors",
    "regex": "not_regex",
}
_OPPOSITES_BACK: Final = {no: yes for yes, no in _OPPOSITES.items()}
_CHOICES: Final = {"only": "no", "no": "only"}


def all_of(parts: Sequence[Table]) -> Table:
    """Return a filter that holds where all of these do."""
    joined: Table = {}
    for part in parts:
        for key, value in part.items():
            _add(joined, key, value)
    return joined


def _add(joined: Table, key: str, value: Any) -> None:
    if key not in joined:
        joined[key] = [*value] if isinstance(value, list) else value
    elif joined[key] == value:
        return
    elif key in _NONE_OF:
        joined[key] += [one for one in value if one not in joined[key]]
    elif key == "search":
        joined[key] = f"({joined[key]}) ({value})"
    elif key == "min_chars":
        joined[key] = max(joined[key], value)
    elif key == "max_chars":
        joined[key] = min(joined[key], value)
    else:
        # Both must hold, and a key stands once: no post without the second.
        alternatives = value if key == "any" else [{key: value}]
        joined.setdefault("none", []).append({"none": alternatives})


def any_of(parts: Sequence[Table]) -> Table:
    """Return a filter that holds where one of these does."""
    unique: list[Table] = []
    for part in parts:
        if part not in unique:
            unique.append(part)
    if len(unique) == 1:
        return unique[0]
    keys = {key for part in unique for key in part}
    if len(keys) == 1 and keys <= _ONE_OF:
        (key,) = keys
        return {key: [*dict.fromkeys(one for part in unique for one in part[key])]}
    return {"any": [*unique]}


def negate(part: Table) -> Table:
    """Return a filter that holds where this one does not."""
    if len(part) == 1:
        ((key, value),) = part.items()
        if key in _OPPOSITES:
            return {_OPPOSITES[key]: value}
        if key in _OPPOSITES_BACK:
            return {_OPPOSITES_BACK[key]: value}
        if key in ("replies", "quotes"):
            return {key: _CHOICES[value]}
        if key == "any":
            return {"none": value}
        if key == "none" and len(value) == 1:
            return dict(value[0])
    return {"none": [part]}
