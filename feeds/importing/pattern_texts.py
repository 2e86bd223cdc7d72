"""Regular expressions and lists of words of other services, for the grammar here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from feeds.recipes.patterns import InvalidPatternError, Pattern
from search.query.parser import MAX_PARTS

MAX_PATTERNS_EACH: Final = 3
"""Patterns that one regular expression is divided into."""
MAX_QUERY_CHARS: Final = 900
_FLAGS: Final = re.compile(r"^\(\?[a-zA-Z]+\)")
_NAMED: Final = re.compile(r"\(\?P?<[A-Za-z_]\w*>")
_CODE: Final = re.compile(r"\\(?:u\{?([0-9a-fA-F]{4,6})\}?|x([0-9a-fA-F]{2}))")
_WORD: Final = re.compile(r"[^\W_]+(?:[ '’-][^\W_]+)*")
_SPECIAL: Final = re.compile(r"([\\.\[\](){}*+?|^$/-])")


def adapt_pattern(text: str) -> list[str]:
    """Return patterns of which one is found where a regular expression is.

    Raises ValueError with the reason why there are none.
    """
    text = _CODE.sub(_character, _NAMED.sub("(?:", _FLAGS.sub("", text)))
    try:
        Pattern(text)
        return [text]
    except InvalidPatternError as error:
        before, alternatives, after = _outermost(text)
        if len(alternatives) == 1:
            raise
        found = pack_alternatives(alternatives, before, after)
        if len(found) > MAX_PATTERNS_EACH:
            raise ValueError(f"the regular expression is too large: {error}") from None
        return found


def word_pattern(words: Sequence[str]) -> list[str]:
    """Return patterns that find one of these words. Raises ValueError."""
    found = pack_alternatives([*map(escape, words)], r"\b(?:", r")\b")
    if len(found) > 1:
        raise ValueError("too many words for a regular expression")
    return found


def escape(text: str) -> str:
    """Return a pattern that finds a text."""
    return _SPECIAL.sub(r"\\\1", text)


def word_queries(words: Iterable[str]) -> list[str] | None:
    """Return queries that find one of these words, None if one is no word."""
    queries: list[str] = []
    line, parts = "", 0
    for word in words:
        if not _WORD.fullmatch(word):
            return None
        piece = f'"{word}"' if not word.isalnum() or word in ("OR", "AND") else word
        count = len(re.findall(r"[^\W_]+", word))
        if count > MAX_PARTS:
            return None
        full = len(f"{line} OR {piece}".encode()) > MAX_QUERY_CHARS
        if line and (full or parts + count > MAX_PARTS):
            queries.append(line)
            line, parts = "", 0
        line = f"{line} OR {piece}" if line else piece
        parts += count
    return [*queries, line] if line else None


def plain_words(pattern: str, *, whole: bool = False) -> list[str] | None:
    r"""Return the words of a pattern as `\b(red|blue)\b`, None for other patterns.

    `whole`: only of patterns that do not find parts of words.
    """
    text = _FLAGS.sub("", pattern)
    before, alternatives, after = _outermost(text)
    if before not in ("", "(", "(?:", r"\b(", r"\b(?:") or after not in (
        "",
        ")",
        r")\b",
    ):
        return None
    if whole and not (
        all(one.startswith(r"\b") and one.endswith(r"\b") for one in alternatives)
        or (before.startswith(r"\b") and after.endswith(r"\b"))
    ):
        return None
    words = [one.removeprefix(r"\b").removesuffix(r"\b") for one in alternatives]
    return words if all(_WORD.fullmatch(word) for word in words) else None


def pack_alternatives(
    alternatives: Sequence[str], before: str = "", after: str = ""
) -> list[str]:
    """Return as few patterns as hold all alternatives. Raises InvalidPatternError."""
    packed: list[str] = []
    line = ""
    for one in alternatives:
        longer = f"{line}|{one}" if line else one
        try:
            Pattern(f"{before}{longer}{after}")
        except InvalidPatternError:
            if not line:
                raise
            packed.append(f"{before}{line}{after}")
            Pattern(f"{before}{one}{after}")
            longer = one
        line = longer
    return [*packed, f"{before}{line}{after}"]


def _outermost(text: str) -> tuple[str, list[str], str]:
    """Return the alternatives of a pattern or of its only group, and what is around."""
    alternatives = _split(text)
    if len(alternatives) > 1:
        return "", alternatives, ""
    match = re.match(r"((?:\\.|[^\\()\[\]])*)(\((?:\?:)?)", text)
    if match is None:
        return "", [text], ""
    end = _closing(text, match.end(1))
    if end is None or "(" in text[end + 1 :]:
        return "", [text], ""
    if text[end + 1 : end + 2] in ("*", "+", "?", "{"):
        return "", [text], ""
    inner = _split(text[match.end() : end])
    return text[: match.end()], inner, text[end:]


def _split(text: str) -> list[str]:
    parts, start, depth = [], 0, 0
    for at, character in _bare(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == "|" and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _closing(text: str, start: int) -> int | None:
    depth = 0
    for at, character in _bare(text):
        if at >= start and character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0:
                return at
    return None


def _bare(text: str) -> Iterable[tuple[int, str]]:
    """Yield the characters that are neither escaped nor in a set, with their places."""
    at, inside = 0, False
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 2
            continue
        if character == "[":
            inside = True
        elif character == "]":
            inside = False
        elif not inside:
            yield at, character
        at += 1


def _character(code: re.Match[str]) -> str:
    number = int(code[1] or code[2], 16)
    is_text = 32 <= number < 0x110000 and not 0xD800 <= number < 0xE000
    return escape(chr(number)) if is_text else code[0]
