"""Line numbers of the keys in a TOML text, which the parser of Python does not give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

Path = tuple[str | int, ...]
_NAME: Final = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_NAMES: Final = rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*"
_HEADER: Final = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_NAMES})[ \t]*\]")
_KEY: Final = re.compile(rf"[ \t]*({_NAMES})[ \t]*=")
_ONE: Final = re.compile(_NAME)
# Strings and comments, which may hold brackets, and the brackets themselves.
_PIECE: Final = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)'
    r"|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|\#[^\n]*|[\[\]{}\n]",
    re.DOTALL,
)
# More parts than any key of a recipe: the parser's time is quadratic in them.
_LONG_KEY: Final = re.compile(r"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){8}")


def has_long_key(text: str) -> bool:
    """Return True if a TOML text has a dotted key of many parts."""
    return _LONG_KEY.search(_PIECE.sub(_without_text, text)) is not None


def _without_text(piece: re.Match[str]) -> str:
    if piece[0][0] in "\"'":
        return "q"
    return "" if piece[0][0] == "#" else piece[0]


class Lines:
    """The lines of a TOML text: `line_of(path)`. Paths number the tables of arrays."""

    def __init__(self, text: str = "") -> None:
        self._lines: dict[Path, int] = {}
        self._counts: dict[tuple[str, ...], int] = {}
        table: Path = ()
        for line, statement in _statements(text):
            if header := _HEADER.match(statement):
                table = self._open(_split(header[2]), is_array=header[1] == "[[")
                self._lines.setdefault(table, line)
            elif key := _KEY.match(statement):
                self._lines.setdefault((*table, *_split(key[1])), line)

    def line_of(self, path: Path) -> int | None:
        """Return the line of a key, or of the table that it should be in."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None

    def _open(self, names: tuple[str, ...], *, is_array: bool) -> Path:
        if is_array:
            self._counts[names] = self._counts.get(names, -1) + 1
            for inner in [n for n in self._counts if n[: len(names)] == names != n]:
                del self._counts[inner]
        path: list[str | int] = []
        for length, name in enumerate(names, 1):
            path.append(name)
            if names[:length] in self._counts:
                path.append(self._counts[names[:length]])
        return tuple(path)


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip("\"'") for name in _ONE.findall(names))


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each key and header with the line on which it begins."""
    start = depth = 0
    line = first = 1
    for piece in _PIECE.finditer(text):
        if piece[0] == "\n" and depth <= 0:
            yield first, text[start : piece.start()]
            start, first, depth = piece.end(), line + 1, 0
        elif piece[0] in ("[", "{"):
            depth += 1
        elif piece[0] in ("]", "}"):
            depth -= 1
        line += piece[0].count("\n")
    yield first, text[start:]
