"""Search of accounts: the named ones, followed ones, then by followers and match.

Beginnings of up to three letters are lexemes of their own, beside tiers of followers,
so that the accounts for one letter need no list of all that begin so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from search.engines.contract import ActorHit
from search.engines.postgres.frequencies import Frequencies
from search.engines.postgres.reading import Reading
from search.engines.postgres.tsvector import BEGIN, TIER, encode_clause, sought
from search.engines.postgres.vectors import MAX_PREFIX
from search.engines.spelling import NAME, correct
from search.query.nodes import Words
from search.text.tokens import Clause, query_tokens
from storage.records.stats import TIERS

MAX_TERMS: Final = 12
_NAMED, _FOLLOWED, _FOUND, _MENDED = range(4)
_MOST_NAMED: Final = 5_000
_CAP: Final = 2_000
_LEAST: Final = 60
_WALK: Final = 16_000
_LAST_TIER: Final = len(TIERS) + 1
_RARE: Final = 3
_FOLLOWERS: Final = """
coalesce((SELECT s.followers FROM actor_stats s WHERE s.actor = a.actor), 0)
"""


@dataclass(frozen=True, slots=True)
class _Term:
    """A search text as tsqueries."""

    wanted: str
    whole: str
    """Fields that the search reads, the last word as a beginning."""
    names: str
    """Handle and name only."""
    words: tuple[str, ...]
    rate: float


class AccountSearch:
    """The search of one page of accounts."""

    def __init__(
        self,
        reading: Reading,
        frequencies: Frequencies,
        follows: Sequence[int],
        *,
        names_only: bool,
    ) -> None:
        self._reading = reading
        self._frequencies = frequencies
        self._follows = [*follows]
        self._names_only = names_only
        self._total = 0

    def find(self, text: str, limit: int, after: list[Any] | None) -> list[ActorHit]:
        """Return accounts: named, followed, found, and those of mended words."""
        wanted = text.replace("\0", " ").strip().removeprefix("@").lower()
        clauses = query_tokens(wanted)[:MAX_TERMS]
        if not clauses:
            return []
        step, *at = after or [_NAMED]
        self._total = self._frequencies.find(self._reading, [NAME])[NAME]
        term = self._term(wanted, clauses)
        found: list[ActorHit] = []
        if step == _NAMED:
            found += self._named(term, limit, at)
            step, at = _FOLLOWED, []
        if step == _FOLLOWED and len(found) < limit:
            found += self._followed(term, limit - len(found), at)
            step, at = _FOUND, []
        if step == _FOUND and len(found) < limit:
            found += self._bands(term, None, _FOUND, limit - len(found), at)
            step, at = (_MENDED, []) if after is None else (_FOUND, [])
        if step == _MENDED and len(found) < limit:
            mended = self._mend(wanted, clauses)
            if mended is not None:
                found += self._bands(mended, term, _MENDED, limit - len(found), at)
        return found

    def _term(self, wanted: str, clauses: Sequence[Clause]) -> _Term:
        whole, names, rate = [], [], 1.0
        words: list[str] = []
        for i, clause in enumerate(clauses):
            is_last = i == len(clauses) - 1
            last = clause.tokens[-1]
            words += clause.tokens
            begun = Words(clause.tokens, prefix=clause.prefix or is_last)
            if is_last and len(clause.tokens) == 1 and len(last) <= MAX_PREFIX:
                short = sought(BEGIN + last)
                names.append(short)
                whole.append(f"({short} | {sought(last)})")
                counted = self._count(BEGIN + last)
            else:
                names.append(encode_clause(begun, "AB"))
                whole.append(encode_clause(begun))
                counted = (
                    self._frequencies.find_prefix(self._reading, NAME + last)
                    if begun.prefix
                    else self._count(last)
                )
            rate *= min(1.0, counted / max(1, self._total))
        read = names if self._names_only else whole
        return _Term(wanted, " & ".join(read), " & ".join(names), tuple(words), rate)

    def _count(self, lexeme: str) -> int:
        return self._frequencies.find(self._reading, [NAME + lexeme])[NAME + lexeme]

    def _mend(self, wanted: str, clauses: Sequence[Clause]) -> _Term | None:
        better: dict[str, str] = {}
        for clause in clauses:
            for word in clause.tokens:
                documents = self._count(word)
                if documents <= _RARE:
                    mended = correct(self._reading, NAME + word, documents)
                    if mended is not None:
                        better[word] = mended.removeprefix(NAME)
        if not better:
            return None
        return self._term(
            wanted,
            [
                Clause(tuple(better.get(t, t) for t in clause.tokens), clause.prefix)
                for clause in clauses
            ],
        )

    def _named(self, term: _Term, limit: int, at: list[Any]) -> list[ActorHit]:
        """Return accounts whose handle, or its first label, is the text."""
        below = "WHERE (exact, followers, actor) < (%s, %s, %s)" if at else ""
        rows = self._reading.rows(
            f"""
            SELECT exact, followers, actor FROM (
                SELECT a.actor, exact, {_FOLLOWERS} AS followers FROM (
                    SELECT actor, 1 AS exact FROM search_actor WHERE handle = %s
                    UNION ALL (
                        SELECT actor, 0 FROM search_actor
                        WHERE handle >= %s AND handle < %s ORDER BY handle LIMIT %s
                    )
                ) a
            ) named {below} ORDER BY exact DESC, followers DESC, actor DESC LIMIT %s
            """,
            [*self._name_range(term), _MOST_NAMED, *at, limit],
        )
        return [ActorHit(row[2], [_NAMED, *row]) for row in rows]

    @staticmethod
    def _name_range(term: _Term) -> list[str]:
        # "/" follows "." in the order of handles.
        wanted = term.wanted
        return [wanted, wanted + ".", wanted + "/"]

    _UNNAMED: Final = (
        "(a.handle IS NULL OR a.handle <> %s AND NOT (a.handle >= %s"
        " AND a.handle < %s))"
    )

    def _followed(self, term: _Term, limit: int, at: list[Any]) -> list[ActorHit]:
        if not self._follows:
            return []
        below = "WHERE (followers, actor) < (%s, %s)" if at else ""
        rows = self._reading.rows(
            f"""
            SELECT followers, actor FROM (
                SELECT a.actor, {_FOLLOWERS} AS followers
                FROM (SELECT DISTINCT unnest(%s::int4[]) AS id) f
                CROSS JOIN LATERAL (
                    SELECT * FROM search_actor a WHERE a.actor = f.id OFFSET 0
                ) a
                WHERE a.tsv @@ %s::tsquery AND {self._UNNAMED}
            ) found {below} ORDER BY followers DESC, actor DESC LIMIT %s
            """,
            [self._follows, term.whole, *self._name_range(term), *at, limit],
        )
        return [ActorHit(row[1], [_FOLLOWED, *row]) for row in rows]

    def _bands(
        self, term: _Term, without: _Term | None, step: int, limit: int, at: list[Any]
    ) -> list[ActorHit]:
        """Return accounts by tiers of followers, by rank inside a tier."""
        found: list[ActorHit] = []
        high = at[0] if at else _LAST_TIER + 1
        while len(found) < limit and high > 1:
            need = limit - len(found)
            low, place = (at[1], at[2:]) if at else (self._low(term, high, need), [])
            rows = None
            while not (place and place[0] is None) and rows is None:
                rows = self._ranked(term, without, high, low, need, place)
                if rows is None:
                    if high - low == 1:
                        break
                    low += 1
            if rows is None:
                rows = self._walked(term, without, high, low, need, place)
            found += [
                ActorHit(actor, [step, high, low, rank, actor]) for rank, actor in rows
            ]
            high, at = low, []
        return found

    def _low(self, term: _Term, high: int, need: int) -> int:
        low = high - 1
        while low > 1:
            share = self._count(f"{TIER}{low}") * term.rate
            if share >= max(_LEAST, 2 * need):
                break
            low -= 1
        return low

    def _where(
        self, term: _Term, without: _Term | None, high: int, low: int
    ) -> tuple[str, list[Any]]:
        text = f"({term.whole})"
        if low > 1:
            text += f" & '{TIER}{low}'"
        if high <= _LAST_TIER:
            text += f" & !'{TIER}{high}'"
        if without is not None:
            text += f" & !({without.whole})"
        where = (
            f"a.tsv @@ %s::tsquery AND a.actor <> ALL(%s::int4[]) AND {self._UNNAMED}"
        )
        return where, [text, self._follows, *self._name_range(term)]

    def _ranked(
        self,
        term: _Term,
        without: _Term | None,
        high: int,
        low: int,
        need: int,
        place: list[Any],
    ) -> list[tuple[float | None, int]] | None:
        """Return (rank, actor) of a band; None if it holds too many to rank."""
        where, values = self._where(term, without, high, low)
        rows = self._reading.rows(
            f"""
            SELECT rank, actor, n FROM (
                SELECT actor, count(*) OVER () AS n, (
                    ln(1 + greatest(0, {_FOLLOWERS})) / ln(4)
                    + 2 * coalesce(a.handle >= %s AND a.handle < %s, false)::int
                    + (a.tsv @@ %s::tsquery)::int
                )::float8 AS rank
                FROM (SELECT * FROM search_actor a WHERE {where} LIMIT %s) a
            ) found {"WHERE (rank, actor) < (%s, %s)" if place else ""}
            ORDER BY rank DESC, actor DESC LIMIT %s
            """,
            [
                term.wanted,
                term.wanted + "\U0010ffff",
                term.names,
                *values,
                2 * _CAP if place else _CAP + 1,
                *place,
                need,
            ],
        )
        if rows and rows[0][2] > _CAP and not place:
            return None
        return [(rank or 0.0, actor) for rank, actor, _ in rows]

    def _walked(
        self,
        term: _Term,
        without: _Term | None,
        high: int,
        low: int,
        need: int,
        place: list[Any],
    ) -> list[tuple[float | None, int]]:
        """Return the newest accounts of a band that is too large to rank."""
        where, values = self._where(term, without, high, low)
        found: list[tuple[float | None, int]] = []
        before = place[1] if place else 2**31 - 1
        while len(found) < need:
            rows = self._reading.rows(
                f"""
                SELECT actor, {where} FROM (
                    SELECT * FROM search_actor WHERE actor < %s
                    ORDER BY actor DESC LIMIT {_WALK}
                ) a ORDER BY actor DESC
                """,
                [*values, before],
            )
            found += [(None, actor) for actor, matches in rows if matches]
            if len(rows) < _WALK:
                break
            before = rows[-1][0]
        return found[:need]
