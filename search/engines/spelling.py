"""Spelling correction: known words near an unknown one.

A table of words with trigrams under a GIN index gives candidates, an edit distance with
transpositions decides. No Postgres extension is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.postgres.pool import Conn

MAX_WORDS = 200_000
"""Words kept, most frequent first."""
_SAMPLED_DOCUMENTS = 200_000
_CANDIDATES = 60
_SHORTEST = 4


def trigrams(word: str) -> list[str]:
    """Return the distinct trigrams of a word, its edges marked by spaces."""
    padded = f"  {word} "
    return sorted({padded[i : i + 3] for i in range(len(padded) - 2)})


def refresh_words(conn: Conn) -> int:
    """Count the words of the newest documents anew; return the number of known ones."""
    rows = conn.execute(
        """
        SELECT word, ndoc FROM ts_stat(%s)
        WHERE length(word) BETWEEN %s AND 40 AND word !~ '[:0-9]' AND ndoc > 1
        ORDER BY ndoc DESC, word LIMIT %s
        """,
        (
            "SELECT tsv FROM search_document ORDER BY ts DESC "
            f"LIMIT {_SAMPLED_DOCUMENTS}",
            _SHORTEST,
            MAX_WORDS,
        ),
    ).fetchall()
    with conn.transaction(), conn.cursor() as cursor:
        cursor.execute("DELETE FROM search_word")
        with cursor.copy(
            "COPY search_word (word, documents, trigrams) FROM STDIN"
        ) as copy:
            for word, documents in rows:
                copy.write_row((word, documents, trigrams(word)))
    return len(rows)


def correct(conn: Conn, word: str) -> str | None:
    """Return the most frequent known word within one edit, two for long words.

    None for a known word, and if there is no candidate.
    """
    if len(word) < _SHORTEST or not word.isalpha():
        return None
    pieces, reach = trigrams(word), 1 if len(word) < 8 else 2
    rows = conn.execute(
        """
        SELECT word, documents FROM search_word
        WHERE trigrams && %s AND length(word) BETWEEN %s AND %s
        ORDER BY (SELECT count(*) FROM unnest(trigrams) t WHERE t = ANY(%s)) DESC,
                 documents DESC
        LIMIT %s
        """,
        (pieces, len(word) - reach, len(word) + reach, pieces, _CANDIDATES),
    ).fetchall()
    if any(known == word for known, _ in rows):
        return None
    near = [
        (distance, -documents, known)
        for known, documents in rows
        if (distance := edit_distance(word, known, reach)) <= reach
    ]
    return min(near)[2] if near else None


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
