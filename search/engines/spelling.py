"""Spelling correction: known words one edit away from an unknown one.

Two words are one edit apart if they agree after one letter is left out of either. The
hashes of these shorter forms stand beside each word under a GIN index.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

from search.text.stems import MARK
from storage.postgres.fetch import fetch_int
from storage.postgres.pool import Conn

NAME: Final = "n:"
"""Prefix of words of account names among the known words."""
SHORTEST: Final = 4
_LONGEST: Final = 32
_TRIED: Final = 200


def is_mendable(lexeme: str) -> bool:
    """Return True if typing errors in this word are corrected."""
    word = lexeme.removeprefix(NAME)
    if not SHORTEST <= len(word) <= _LONGEST or ":" in word or MARK in word:
        return False
    return not any(c.isdigit() for c in word)


def variants(lexeme: str) -> list[int]:
    """Return hashes of the word, and of the word without each of its letters."""
    word = lexeme.removeprefix(NAME)
    kind = NAME if word != lexeme else ""
    shorter = {word[:i] + word[i + 1 :] for i in range(len(word))}
    return sorted({_hash(kind + form) for form in (word, *shorter)})


def _hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "replace")) - 2**31


def correct(cursor: Any, lexeme: str, documents: int = 0) -> str | None:
    """Return the best known word within one edit; it is far more frequent.

    `documents` is the number of documents with the word itself.
    """
    if not is_mendable(lexeme):
        return None
    rows = cursor.execute(
        """
        SELECT word, documents FROM search_word
        WHERE variants && %s::int4[] AND word <> %s AND documents > %s
        ORDER BY documents DESC LIMIT %s
        """,
        (variants(lexeme), lexeme, 4 * documents, _TRIED),
    ).fetchall()
    word = lexeme.removeprefix(NAME)
    kind = lexeme[: len(lexeme) - len(word)]
    near = [
        (distance, known[0] != word[0], -n, known)
        for found, n in rows
        if found.startswith(kind) and (known := found.removeprefix(kind))
        if (distance := edit_distance(word, known, 1)) <= 1
    ]
    return kind + min(near)[3] if near else None


def edit_distance(a: Sequence[str], b: Sequence[str], limit: int) -> int:
    """Return the insertions, deletions, replacements and transpositions from `a` to
    `b`.

    Any number above `limit` stands for too many.
    """
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before: list[int] = []
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        current = [i]
        for j, y in enumerate(b, 1):
            best = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, before[j - 2] + 1)
            current.append(best)
        before, previous = previous, current
    return previous[-1]


def refresh_words(conn: Conn) -> int:
    """Forget words without documents; return the number of known ones."""
    conn.execute("DELETE FROM search_word WHERE documents <= 0")
    return fetch_int(conn, "SELECT count(*) FROM search_word")
