"""Chunks: some hundred posts of a recipe, filtered and in their final order.

A feed is a sequence of chunks, each of the next posts by time. The first one ends at a
frozen moment, so that a reader's places hold while posts arrive. Chunks are held in
memory for a while and shared by all readers; a page is a slice of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from feeds.recipes.recipe import Mix, Rank, RankBy, Source
from feeds.serving.candidates import Key
from feeds.serving.live_checks import LiveRows, live_fault, load_live_rows, needs_facts
from feeds.serving.ordering import Found, Inputs, interleave, merge, spread
from feeds.serving.post_facts import (
    co_like_scores,
    count_lately,
    load_facts,
    load_values,
)
from feeds.serving.streams import Streams
from storage.postgres.instants import from_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_addresses

MAX_HELD: Final = 200_000
"""Posts of all chunks in memory."""
_PLAIN_POOL: Final = 200
"""Posts of a chunk that is ordered by time alone."""

Positions = tuple[Key | None, ...]
"""Key of each group of sources after which it goes on, None at its end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The part of a recipe that is served to a viewer.

    `groups` are sources that are read together: all of them, or one each to be
    interleaved.
    """

    streams: Streams
    rank: Rank
    groups: tuple[tuple[tuple[int, Source], ...], ...]
    sticky: tuple[str, ...]
    now: int
    """The frozen moment, in microseconds."""

    @property
    def sources(self) -> list[tuple[int, Source]]:
        """Return all sources with their bits."""
        return [each for group in self.groups for each in group]

    def first(self) -> Positions:
        """Return the positions of the first chunk."""
        return (Key(self.now + 1, 0, 0, 0),) * len(self.groups)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Posts in order. `after` has the positions of the next chunk, None at the end.

    `left_out` has the reasons of posts that were read and are not in it.
    """

    posts: tuple[Found, ...]
    after: Positions | None
    left_out: dict[Address, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of posts."""
        return len(self.posts)


def build_chunk(
    conn: Conn, plan: Plan, start: Positions, *, explain: bool = False
) -> Chunk:
    """Read, filter and order the next posts of a recipe."""
    rank = plan.rank
    pool = rank.pool if _needs_pool(plan) else min(rank.pool, _PLAIN_POOL)
    share = max(10, pool // len(plan.groups))
    found: list[Found] = []
    after: list[Key | None] = []
    for group, position in zip(plan.groups, start, strict=True):
        if position is None:
            after.append(None)
            continue
        posts, ended_at = plan.streams.read_next(conn, group, position, share)
        found += posts
        after.append(ended_at)
    sticky = _sticky(conn, plan)
    pinned = {each.post for each in sticky}
    found = _without_repeats([each for each in found if each.post not in pinned])
    left_out: dict[Address, str] = {}
    found, inputs = _filtered(conn, plan, found, left_out)
    order = interleave if rank.mix is Mix.INTERLEAVE else merge
    ordered = order(found, plan.sources, rank, inputs)
    placed, crowded = spread(ordered, rank.diversity, inputs)
    for each in crowded:
        left_out[each.post] = "diversity: too many of its author, thread or domain"
    if start == plan.first():
        placed = [*sticky, *placed]
    return Chunk(
        tuple(placed),
        None if all(key is None for key in after) else tuple(after),
        left_out if explain else {},
    )


def _needs_pool(plan: Plan) -> bool:
    rank = plan.rank
    return (
        rank.by is not RankBy.LATEST
        or rank.mix is Mix.INTERLEAVE
        or rank.diversity.is_limited
        or plan.streams.compiled.recipe.live.lists != ()
        or needs_facts(plan.streams.compiled.recipe.live)
    )


def _without_repeats(found: Sequence[Found]) -> list[Found]:
    """Join a post that several groups have found."""
    by_post: dict[Address, Found] = {}
    for each in found:
        other = by_post.get(each.post)
        if other is not None:
            first = max(each, other, key=lambda one: one.key)
            each = Found(
                first.key, first.post, each.sources | other.sources, first.repost
            )
        by_post[each.post] = each
    return [*by_post.values()]


def _filtered(
    conn: Conn, plan: Plan, found: list[Found], left_out: dict[Address, str]
) -> tuple[list[Found], Inputs]:
    """Return the posts for which all filters hold, and what orders them."""
    live = plan.streams.compiled.recipe.live
    rank = plan.rank
    orders = {rank.by, *(s.rank for _, s in plan.sources if s.rank is not None)}
    posts = [each.post for each in found]
    counts = needs_facts(live)
    if counts or orders != {RankBy.LATEST} or rank.diversity.per_thread is not None:
        facts = load_facts(conn, posts)
    else:
        facts = {}
    needs_values = live.labels or live.not_labels or rank.diversity.per_domain
    values = load_values(conn, posts) if needs_values else {}
    rows = load_live_rows(conn, live, posts, values) if found else LiveRows()
    kept: list[Found] = []
    for each in found:
        known = facts.get(each.post) if counts else None
        reason = live_fault(each, live, known, rows, plan.now)
        if reason is None:
            kept.append(each)
        else:
            left_out[each.post] = reason
    authors = {each.post.actor for each in kept}
    now = from_micros(plan.now)
    lately = (
        count_lately(conn, authors, now - timedelta(days=rank.quiet_days), now)
        if RankBy.QUIET in orders
        else {}
    )
    viewer = plan.streams.viewer
    in_common = (
        co_like_scores(conn, viewer, [each.post for each in kept])
        if RankBy.CO_LIKES in orders and viewer is not None
        else {}
    )
    return kept, Inputs(plan.now, facts, lately, in_common, values)


def _sticky(conn: Conn, plan: Plan) -> list[Found]:
    if not plan.sticky:
        return []
    known = find_addresses(conn, plan.sticky)
    return [
        Found(Key(plan.now, *known[uri]), known[uri], 0, pinned=True)
        for uri in plan.sticky
        if uri in known
    ]
