"""The text of a recipe file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

_LINE: Final = 80


def write_recipe(recipe: Mapping[str, Any], comments: Iterable[str] = ()) -> str:
    """Return a recipe as TOML, with comments on top."""
    lines = [f"# {comment}".rstrip() for comment in comments]
    if lines:
        lines.append("")
    tables = {k: v for k, v in recipe.items() if isinstance(v, Mapping)}
    arrays = {k: v for k, v in recipe.items() if k == "source"}
    for key, value in recipe.items():
        if key not in tables and key not in arrays:
            lines += _pair(key, value)
    for name, items in arrays.items():
        for item in items:
            lines += ["", f"[[{name}]]"]
            for key, value in item.items():
                lines += _pair(key, value)
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]"]
            for key, value in table.items():
                lines += _pair(key, value)
    return "\n".join(lines) + "\n"


def _pair(key: str, value: Any) -> list[str]:
    line = f"{key} = {_value(value)}"
    if not isinstance(value, list) or len(line) <= _LINE:
        return [line]
    return [f"{key} = [", *(f"  {_value(item)}," for item in value), "]"]


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value)


def _text(text: str) -> str:
    if "\\" in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    # JSON escapes all that TOML wants escaped, except one control character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
