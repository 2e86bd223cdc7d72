"""The posts of a recipe's sources by time, newest first.

Matched sources are read from stored candidates. The accounts of all others are merged
as they are read. So the cost is that of the posts that are read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from feeds.account_merge import followed_accounts, merge_accounts
from feeds.recipes.compiling import CompiledRecipe, account_dids
from feeds.recipes.recipe import Source, SourceKind
from feeds.serving.candidates import Candidate, Key, read_candidates
from feeds.serving.ordering import Found
from feeds.serving.post_facts import POST, find_members
from indexer.collections.texts import TEXTS
from search.matches.matcher import Seen
from search.record_documents import load_accounts, load_documents
from storage.collections import FOLLOW_SUBJECT
from storage.postgres.instants import from_micros, micros_sql, to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_actors, find_addresses
from storage.records.links import partition_of

MAX_ACCOUNTS: Final = 2_000
"""Accounts of one source that are merged."""
MAX_DECISIONS: Final = 200_000

ReadCandidates = Callable[[Conn, Key, datetime, int], list[Candidate]]
"""Return candidates below a key, not older than a time, up to a limit."""


class Decisions:
    """Filters applied to posts of merged accounts, remembered by recipe and post."""

    def __init__(self, most: int = MAX_DECISIONS) -> None:
        self._most = most
        self._known: OrderedDict[tuple[int, Address], bool] = OrderedDict()
        self._lock = threading.Lock()

    def holding(
        self, conn: Conn, compiled: CompiledRecipe, posts: Collection[Address]
    ) -> set[Address]:
        """Return the posts for which the filter of a recipe holds."""
        if compiled.holds is None:
            return {*posts}
        feed = compiled.candidates
        with self._lock:
            known = {post: self._known.get((feed, post)) for post in posts}
        unknown = [post for post, held in known.items() if held is None]
        decided = dict.fromkeys(unknown, False)
        accounts = load_accounts(conn, {post.actor for post in unknown})
        for document in load_documents(conn, TEXTS, unknown, accounts):
            decided[document.address] = compiled.holds(Seen(document))
        with self._lock:
            for post, held in decided.items():
                self._known[feed, post] = held
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return {post for post, held in {**known, **decided}.items() if held}


@dataclass(frozen=True, slots=True)
class Streams:
    """The parts that the streams of one request are read from."""

    compiled: CompiledRecipe
    viewer: int | None
    oldest: datetime
    read: ReadCandidates
    decisions: Decisions

    def read_next(
        self,
        conn: Conn,
        sources: Sequence[tuple[int, Source]],
        after: Key,
        limit: int,
    ) -> tuple[list[Found], Key | None]:
        """Return the next posts of some sources, and the key after which more follow.

        The key is None at the end of all of them.
        """
        found: dict[Address, Found] = {}
        bounds: list[Key] = []
        for posts, last in self._read_streams(conn, sources, after, limit):
            if last is not None:
                bounds.append(last)
            for each in posts:
                other = found.get(each.post)
                if other is None:
                    found[each.post] = each
                else:
                    first = max(each, other, key=lambda one: one.key)
                    found[each.post] = replace(
                        first, sources=each.sources | other.sources
                    )
        # Below the highest end of a stream, its next posts are not known yet.
        bound = max(bounds, default=None)
        kept = [e for e in found.values() if bound is None or e.key >= bound]
        return sorted(kept, key=lambda each: each.key, reverse=True), bound

    def _read_streams(
        self,
        conn: Conn,
        sources: Sequence[tuple[int, Source]],
        after: Key,
        limit: int,
    ) -> Iterable[tuple[list[Found], Key | None]]:
        stored = self.compiled.stored_bits
        mask = sum(1 << bit for bit, _ in sources if bit in stored)
        if mask:
            rows = self.read(conn, after, self.oldest, limit)
            posts = [
                Found(row.key, row.key.address, row.sources & mask)
                for row in rows
                if row.sources & mask
            ]
            yield posts, rows[-1].key if len(rows) == limit else None
        for bit, source in sources:
            if source.kind is SourceKind.EVERYTHING and bit not in stored:
                yield self._read_posts(conn, bit, after, limit)
            elif bit not in stored:
                yield self._read_accounts(conn, bit, source, after, limit)

    def _read_posts(
        self, conn: Conn, bit: int, after: Key, limit: int
    ) -> tuple[list[Found], Key | None]:
        rows = conn.execute(
            f"""
            SELECT {micros_sql("sort_at")}, actor, %s::int4, rkey FROM post
            WHERE sort_at >= %s AND sort_at <= %s
              AND (sort_at, actor, %s::int4, rkey) < (%s, %s, %s, %s)
            ORDER BY sort_at DESC, actor DESC, rkey DESC LIMIT %s
            """,
            (
                *(POST, self.oldest, from_micros(after.at), POST),
                *(from_micros(after.at), *after[1:], limit),
            ),
        )
        found = [Found(Key(*row), Key(*row).address, 1 << bit) for row in rows]
        return found, found[-1].key if len(found) == limit else None

    def _read_accounts(
        self, conn: Conn, bit: int, source: Source, after: Key, limit: int
    ) -> tuple[list[Found], Key | None]:
        accounts = find_accounts(conn, self.compiled, source, self.viewer)
        if not accounts:
            return [], None
        entries = merge_accounts(conn, accounts, after, limit, reposts=source.reposts)
        oldest = to_micros(self.oldest)
        found = [
            Found(Key(*entry.keyset), entry.item.post, 1 << bit, entry.item.repost)
            for entry in entries
            if entry.keyset[0] >= oldest
        ]
        last = Key(*entries[-1].keyset) if len(entries) == limit else None
        if last is not None and last.at < oldest:
            last = None
        held = self.decisions.holding(
            conn, self.compiled, {each.post for each in found}
        )
        return [each for each in found if each.post in held], last


def stored_reader(feed: int) -> ReadCandidates:
    """Return the reader of a recipe's stored candidates."""
    return lambda conn, after, oldest, limit: read_candidates(
        conn, feed, after, oldest, limit
    )


def fixed_reader(candidates: Iterable[Candidate]) -> ReadCandidates:
    """Return a reader of candidates in memory."""
    merged: dict[Key, int] = {}
    for candidate in candidates:
        merged[candidate.key] = merged.get(candidate.key, 0) | candidate.sources
    ordered = [Candidate(key, merged[key]) for key in sorted(merged, reverse=True)]

    def read(conn: Conn, after: Key, oldest: datetime, limit: int) -> list[Candidate]:
        first = to_micros(oldest)
        below = (c for c in ordered if c.key < after and c.key.at >= first)
        return [candidate for candidate, _ in zip(below, range(limit), strict=False)]

    return read


def find_accounts(
    conn: Conn, compiled: CompiledRecipe, source: Source, viewer: int | None
) -> list[int]:
    """Return the accounts of a source, without further ones over the limits."""
    if source.kind is SourceKind.ACCOUNTS:
        dids = account_dids(source.values, compiled.accounts)
        return sorted(find_actors(conn, dids).values())
    if source.kind is SourceKind.LIST:
        members = find_members(conn, source.values).get(source.values[0], set())
        return sorted(members)[:MAX_ACCOUNTS]
    if source.kind is SourceKind.STARTER_PACK:
        return _members_of_pack(conn, source.values[0])
    if source.kind is SourceKind.FOLLOWS_OF:
        dids = account_dids(source.values, compiled.accounts)
        found = find_actors(conn, dids).values()
        return [a for actor in found for a in followed_accounts(conn, actor)]
    if viewer is None:
        return []
    follows = followed_accounts(conn, viewer)
    if source.kind is SourceKind.FOLLOWS:
        return follows
    return _follows_of(conn, viewer, follows)


def _members_of_pack(conn: Conn, uri: str) -> list[int]:
    address = find_addresses(conn, [uri]).get(uri)
    if address is None:
        return []
    rows = conn.execute(
        """
        SELECT i.subject FROM starter_pack s
        JOIN list_item i ON i.list_actor = s.list_actor AND i.list_rkey = s.list_rkey
        WHERE s.actor = %s AND s.rkey = %s ORDER BY i.subject LIMIT %s
        """,
        (address.actor, address.rkey, MAX_ACCOUNTS),
    )
    return [subject for (subject,) in rows]


def _follows_of(conn: Conn, viewer: int, follows: Sequence[int]) -> list[int]:
    """Return the accounts that most of the follows follow, without these."""
    rows = conn.execute(
        f"""
        SELECT l.target_actor FROM unnest(%s::int4[]) AS f (id)
        CROSS JOIN LATERAL (
            SELECT target_actor FROM {partition_of(FOLLOW_SUBJECT)}
            WHERE actor = f.id AND path = %s LIMIT 200
        ) l
        GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT %s
        """,
        ([*follows[:500]], FOLLOW_SUBJECT, MAX_ACCOUNTS),
    )
    own = {viewer, *follows}
    return [actor for (actor,) in rows if actor not in own]
