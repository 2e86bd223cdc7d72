"""Checked values of a table in a recipe, each taken by its key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from feeds.recipes.recipe import MAX_VALUES
from feeds.recipes.toml_lines import Lines, Path
from protocol.data.graphemes import count_graphemes

E = TypeVar("E", bound=StrEnum)
_SPAN: Final = re.compile(r"([0-9]{1,6}) ?(m|h|d)")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_DECIMAL: Final = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")


class InvalidRecipeError(ValueError):
    """A recipe is malformed. `line` is None for a recipe that is no file."""

    def __init__(self, reason: str, line: int | None = None, path: Path = ()) -> None:
        self.reason = reason
        self.line = line
        self.path = path
        where = f"line {line}: " if line is not None else ""
        super().__init__(f"{where}{name_path(path)}{reason}")


def name_path(path: Path) -> str:
    """Return the place of a key: `source 2, search: `; tables count from one."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts[-1] = f"{parts[-1]} {step + 1}"
        else:
            parts.append(step)
    return f"{', '.join(parts)}: " if parts else ""


class Fields:
    """One table. Each key is taken once; `finish` refuses the others."""

    def __init__(
        self, values: Mapping[str, Any], lines: Lines, path: Path = ()
    ) -> None:
        self._values = dict(values)
        self._known: list[str] = []
        self.lines = lines
        self.path = path

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def fail(self, reason: str, key: str | None = None) -> InvalidRecipeError:
        """Return the error of a key, or of the whole table."""
        path = self.path if key is None else (*self.path, key)
        return InvalidRecipeError(reason, self.lines.line_of(path), path)

    def finish(self) -> None:
        """Raise InvalidRecipeError for a key that was not taken."""
        for key in self._values:
            near = difflib.get_close_matches(key[:50], self._known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self.fail(f"this key is not known here{hint}", key[:50])

    def text(
        self,
        key: str,
        default: str | None = None,
        *,
        most: int = 1_000,
        check: Callable[[str], str] | None = None,
    ) -> str:
        """Take a text of at most `most` graphemes; `check` returns its normal form."""
        value = self._take(key)
        if value is None:
            if default is None:
                raise self._missing(key)
            return default
        return self._check_text(key, value, most, check)

    def texts(
        self,
        key: str,
        *,
        most: int = MAX_VALUES,
        check: Callable[[str], str] | None = None,
    ) -> tuple[str, ...]:
        """Take a list of texts, each once; one text stands for a list of it."""
        value = self._take(key)
        if value is None:
            return ()
        items = value if isinstance(value, list | tuple) else [value]
        if not items:
            raise self.fail("the list is empty", key)
        if len(items) > most:
            raise self.fail(f"at most {most} values", key)
        return tuple(
            dict.fromkeys(self._check_text(key, item, 1_000, check) for item in items)
        )

    def integer(self, key: str, default: int, *, low: int, high: int) -> int:
        """Take a whole number."""
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail("write a whole number", key)
        if not low <= value <= high:
            raise self.fail(f"write a number from {low} to {high}", key)
        return value

    def optional_integer(self, key: str, *, low: int = 0, high: int) -> int | None:
        """Take a whole number, None if it is not given."""
        if key not in self:
            self._known.append(key)
            return None
        return self.integer(key, low, low=low, high=high)

    def number(self, key: str, default: float, *, low: float, high: float) -> float:
        """Take a number; JSON records hold fractions as text."""
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, str) and _DECIMAL.fullmatch(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail("write a number", key)
        if not low <= value <= high:
            raise self.fail(f"write a number from {low:g} to {high:g}", key)
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """Take true or false."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail("write true or false", key)
        return value

    def choice(self, key: str, kind: type[E], default: E | None) -> E:
        """Take one of the values of an enumeration."""
        value = self._take(key)
        if value is None:
            if default is None:
                raise self._missing(key)
            return default
        if value not in [*kind]:
            raise self.fail(f"write one of {_listed(kind)}", key)
        return kind(value)

    def span(self, key: str, *, most: timedelta) -> timedelta | None:
        """Take a span of time as in `30m`, `12h` or `7d`, None if it is not given."""
        value = self._take(key)
        if value is None:
            return None
        match = _SPAN.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self.fail('write a span of time as "30m", "12h" or "7d"', key)
        span = timedelta(**{_UNITS[match[2]]: int(match[1])})
        if span > most:
            raise self.fail(f"at most {most.days} days", key)
        return span

    def table(self, key: str) -> Fields:
        """Take a table; an empty one if it is not given."""
        value = self._take(key)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.fail(f"write a table: [{key}]", key)
        return Fields(value, self.lines, (*self.path, key))

    def tables(self, key: str, *, most: int) -> list[Fields]:
        """Take an array of tables."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list | tuple) or not all(
            isinstance(item, Mapping) for item in value
        ):
            raise self.fail(f"write tables: [[{key}]]", key)
        if len(value) > most:
            raise self.fail(f"at most {most} of [[{key}]]", key)
        return [
            Fields(item, self.lines, (*self.path, key, number))
            for number, item in enumerate(value)
        ]

    def _missing(self, key: str) -> InvalidRecipeError:
        near = difflib.get_close_matches(key, [k[:50] for k in self._values], 1)
        if near:
            return self.fail(
                f"this key is not known here; did you mean {key}?", near[0]
            )
        return self.fail(f"{key} is missing")

    def _take(self, key: str) -> Any:
        self._known.append(key)
        return self._values.pop(key, None)

    def _check_text(
        self, key: str, value: Any, most: int, check: Callable[[str], str] | None
    ) -> str:
        if not isinstance(value, str):
            raise self.fail("write a text in quotes", key)
        if not _is_clean(value):
            raise self.fail("the text holds a character that is not allowed", key)
        if not value.strip():
            raise self.fail("the text is empty", key)
        if len(value.encode()) > 10 * most or count_graphemes(value, most) > most:
            raise self.fail(f"longer than {most} characters", key)
        try:
            return value if check is None else check(value)
        except ValueError as error:
            raise self.fail(str(error), key) from None


def _is_clean(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _listed(values: Iterable[str]) -> str:
    return ", ".join(map(str, values))
