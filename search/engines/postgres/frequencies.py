"""Number of documents of each word and filter: kept by writers, cached by readers.

Rare words wait in the memory of the writer and may be forgotten: readers want to know
which words are frequent.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from search.engines.postgres.tsvector import PARENT, QUOTE, ROOT, URL
from search.engines.spelling import is_mendable, variants
from storage.postgres.arrays import int_array, text_array
from storage.postgres.pool import Conn

_UNCOUNTED: Final = (PARENT, ROOT, QUOTE, URL)
"""Filters with nearly as many values as documents."""
_EXACT: Final = 20_000
"""Up to this number of documents words of a single one are written too."""
_FLUSH_SHARE: Final = 20
"""Changes are written when they concern one in so many documents, …"""
_FLUSH_EVERY: Final = 2_000
"""… or this number, …"""
_FLUSH_S: Final = 10.0
"""… or after so long."""
_MOST_WRITTEN: Final = 3_000
_WRITTEN_AT_ONCE: Final = 300
"""Words that are written with one batch, …"""
_WRITTEN_PER_DOCUMENT: Final = 2
"""… or so many for each of its documents: a post does not wait for all the words."""
_SWEPT_PER_WRITTEN: Final = 4
"""Words that are checked for rare ones with one batch, as a multiple of those."""
_MOST_WAITING: Final = 300_000
RARE: Final = 100_000
"""A word of no more than one in so many documents is forgotten in time."""
_CACHED_S: Final = 5.0
_MOST_CACHED: Final = 50_000
_LONGEST: Final = 200
_PREFIX_WORDS: Final = 2_000


@dataclass(slots=True)
class WordCounter:
    """Changes of a writer that are not written yet."""

    _waiting: Counter[str] = field(default_factory=Counter)
    _due: dict[str, int] = field(default_factory=dict)
    """Changes that are written with this batch and the next ones."""
    _documents: int = 0
    _batch: int = 0
    """Documents since the last call of `flush`."""
    _flushed: float = 0.0
    _total: int | None = None
    _swept: str | None = None
    """The last word that was checked for being rare; None: no sweep is under way."""

    def add(self, lexemes: Mapping[str, int], documents: int, sign: int = 1) -> None:
        """Count the lexemes of documents that were added, or removed (-1)."""
        waiting = self._waiting
        for lexeme, n in lexemes.items():
            if len(lexeme) <= _LONGEST and not lexeme.startswith(_UNCOUNTED):
                waiting[lexeme] += sign * n
        self._documents += documents
        self._batch += documents

    def flush(self, conn: Conn, total: int) -> bool:
        """Write changes if they are due, many ones in parts; `total` documents exist.

        Return True if any were written.
        """
        most = max(_WRITTEN_AT_ONCE, _WRITTEN_PER_DOCUMENT * self._batch)
        self._batch = 0
        self._sweep(conn, total, _SWEPT_PER_WRITTEN * most)
        if not self._due and self._waiting:
            self._choose_due(total)
        if not self._due:
            return False
        due = self._due
        some = due if total <= _EXACT else dict(islice(due.items(), most))
        _write(conn, some, total)
        self._due = {word: n for word, n in due.items() if word not in some}
        return True

    def _sweep(self, conn: Conn, total: int, most: int) -> None:
        """Forget rare words in parts, once whenever the documents have doubled."""
        before, self._total = self._total, total
        if before is not None and before.bit_length() < total.bit_length():
            self._swept = "" if total > RARE else None
        if self._swept is not None:
            self._swept = forget_rare(conn, total, self._swept, most)

    def _choose_due(self, total: int) -> None:
        now = time.monotonic()
        late = now - self._flushed > (_FLUSH_S if total <= _EXACT else 6 * _FLUSH_S)
        if not late and self._documents < min(_FLUSH_EVERY, total // _FLUSH_SHARE):
            return
        self._flushed = now
        self._documents = 0
        waiting = self._waiting
        if total <= _EXACT:
            self._due, self._waiting = dict(waiting), Counter()
            return
        due = {word: n for word, n in waiting.items() if abs(n) >= 2}
        if len(due) > _MOST_WRITTEN:
            due = dict(Counter(due).most_common(_MOST_WRITTEN))
        self._due = due
        for word in due:
            del waiting[word]
        if len(waiting) > _MOST_WAITING:
            waiting.clear()

    def clear(self) -> None:
        self._waiting.clear()
        self._due = {}
        self._documents = 0


def forget_rare(conn: Conn, total: int, after: str, most: int) -> str | None:
    """Remove words too rare to matter among the next `most` behind `after`.

    Return the last word that was checked, None at the end.
    """
    row = conn.execute(
        """
        WITH checked AS MATERIALIZED (
            SELECT word, documents FROM search_word WHERE word > %s
            ORDER BY word LIMIT %s
        ), gone AS (
            DELETE FROM search_word WHERE word = ANY(ARRAY(
                SELECT word FROM checked WHERE documents <= %s
            ))
        )
        SELECT max(word) FROM checked HAVING count(*) = %s
        """,
        (after, most, total // RARE, most),
    ).fetchone()
    return row[0] if row else None


def _write(conn: Conn, changes: Mapping[str, int], total: int) -> None:
    more = sorted((word, n) for word, n in changes.items() if n > 0)
    less = sorted((word, n) for word, n in changes.items() if n < 0)
    if less:
        conn.execute(
            """
            UPDATE search_word w SET documents = w.documents + x.n
            FROM unnest(%s::text[], %s::int4[]) AS x(word, n) WHERE w.word = x.word
            """,
            (text_array(w for w, _ in less), int_array(n for _, n in less)),
        )
    if not more:
        return
    rows = conn.execute(
        """
        INSERT INTO search_word AS w (word, documents)
        SELECT * FROM unnest(%s::text[], %s::int4[])
        ON CONFLICT (word) DO UPDATE SET documents = w.documents + excluded.documents
        RETURNING word, documents, variants IS NULL
        """,
        (text_array(w for w, _ in more), int_array(n for _, n in more)),
    ).fetchall()
    least = 1 if total <= _EXACT else max(2, total // RARE)
    mendable = [
        word for word, n, bare in rows if bare and n >= least and is_mendable(word)
    ]
    if mendable:
        conn.execute(
            """
            UPDATE search_word w SET variants = x.variants::int4[]
            FROM unnest(%s::text[], %s::text[]) AS x(word, variants)
            WHERE w.word = x.word
            """,
            (
                text_array(mendable),
                text_array(int_array(variants(word)) for word in mendable),
            ),
        )


class Frequencies:
    """Numbers of documents by lexeme, cached for seconds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cached: dict[str, int] = {}
        self._until = 0.0

    def find_prefix(self, reader: Any, prefix: str) -> int:
        """Return the number of documents with words that begin so, overestimated."""
        key = prefix + "*"
        with self._lock:
            known = self._cached.get(key)
        if known is not None:
            return known
        row = reader.execute(
            """
            SELECT coalesce(sum(documents), 0)::int8 FROM (
                SELECT documents FROM search_word WHERE word >= %s AND word < %s
                LIMIT %s
            ) found
            """,
            (prefix, prefix + "\U0010ffff", _PREFIX_WORDS),
        ).fetchone()
        with self._lock:
            self._cached[key] = int(row[0])
        return int(row[0])

    def find(self, reader: Any, lexemes: Collection[str]) -> dict[str, int]:
        """Return the number of documents of each lexeme, 0 if unknown."""
        now = time.monotonic()
        with self._lock:
            if now >= self._until or len(self._cached) > _MOST_CACHED:
                self._cached, self._until = {}, now + _CACHED_S
            cached = self._cached
        missing = [
            lexeme for lexeme in lexemes if lexeme not in cached and "\0" not in lexeme
        ]
        if missing:
            rows = reader.execute(
                "SELECT word, documents FROM search_word WHERE word = ANY(%s)",
                (missing,),
            )
            found = dict.fromkeys(missing, 0) | dict(rows.fetchall())
            with self._lock:
                cached.update(found)
        return {lexeme: max(0, cached.get(lexeme, 0)) for lexeme in lexemes}

    def clear(self) -> None:
        with self._lock:
            self._until = 0.0
