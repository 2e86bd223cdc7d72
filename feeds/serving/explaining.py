"""Explanations: why a post is at its place in a recipe, or why it is not in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from feeds.recipes.compiling import CompiledRecipe
from feeds.recipes.recipe import MATCHED, RankBy, Source, SourceKind
from feeds.serving.candidates import MAX_CANDIDATES, find_candidate
from feeds.serving.chunks import Chunk, Plan, build_chunk
from feeds.serving.filling import FillState, find_fill
from feeds.serving.ordering import Found, count_reactions
from feeds.serving.post_facts import load_facts
from feeds.serving.recipe_feed import MAX_CHUNKS, RecipeFeed
from feeds.serving.streams import find_accounts
from feeds.skeleton import FeedRequest, ViewerRequiredError
from indexer.collections.texts import TEXTS
from search.matches.matcher import Seen, compile_query
from search.record_documents import read_document
from storage.postgres.instants import to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address, find_addresses

_PIECE: Final = 200


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer for a post: `rank` counts from 1, None if the post is not in.

    `reasons` are sentences, the first one decides.
    """

    rank: int | None
    reasons: tuple[str, ...]
    parts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_in(self) -> bool:
        """Return True if the post is in the feed."""
        return self.rank is not None


def explain_post(
    conn: Conn,
    feed: RecipeFeed,
    uri: str,
    viewer: int | None,
    *,
    stored: bool = True,
    chunks: int = MAX_CHUNKS,
) -> Explanation:
    """Explain a post, by its AT-URI. `stored` is False for a recipe not yet saved.

    Only the first `chunks` are read.
    """
    now = to_micros(datetime.now(UTC))
    request = FeedRequest(viewer, _PIECE)
    post = find_addresses(conn, [uri]).get(uri)
    if post is None:
        return _out("the index does not know this record")
    try:
        plan = feed.plan(conn, viewer, now)
    except ViewerRequiredError as error:
        return _out(str(error))
    rank = 0
    for chunk in _chunks(conn, plan, chunks):
        if post in chunk.left_out:
            return _out(f"left out by {chunk.left_out[post]}")
        faults = feed.page_faults(conn, request, now, chunk.posts)
        for each in chunk.posts:
            if each.post == post and post in faults:
                return _out(faults[post])
            rank += each.post not in faults
            if each.post == post:
                return _inside(conn, feed, plan, each, rank)
    return Explanation(None, tuple(_why_absent(conn, feed, plan, post, stored)))


def explain_empty(
    conn: Conn,
    feed: RecipeFeed,
    viewer: int | None,
    *,
    stored: bool = True,
    chunks: int = MAX_CHUNKS,
) -> list[str]:
    """Return the reasons why a feed has no posts; empty if it has some.

    The first `chunks` are read.
    """
    now = to_micros(datetime.now(UTC))
    request = FeedRequest(viewer, _PIECE)
    try:
        plan = feed.plan(conn, viewer, now)
    except ViewerRequiredError as error:
        return [str(error)]
    counts: dict[str, int] = {}
    for chunk in _chunks(conn, plan, chunks):
        faults = feed.page_faults(conn, request, now, chunk.posts)
        if len(faults) < len(chunk.posts):
            return []
        for reason in (*chunk.left_out.values(), *faults.values()):
            kind = reason.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
    reasons = [f"left out by {kind}: {n}" for kind, n in sorted(counts.items())]
    if counts:
        return reasons
    return [*_source_faults(conn, feed, plan, stored)] or [
        "no post of the window matches the sources and the filter"
    ]


def _chunks(conn: Conn, plan: Plan, most: int) -> Iterator[Chunk]:
    start = plan.first()
    for _ in range(most):
        chunk = build_chunk(conn, plan, start, explain=True)
        yield chunk
        if chunk.after is None:
            return
        start = chunk.after


def _out(reason: str) -> Explanation:
    return Explanation(None, (reason,))


def _inside(
    conn: Conn, feed: RecipeFeed, plan: Plan, found: Found, rank: int
) -> Explanation:
    names = feed.context_of(found)
    reasons = [
        "it is a sticky post" if found.pinned else f"sources that found it: {names}"
    ]
    parts: dict[str, Any] = {"sources": names, "order": plan.rank.by.value}
    if found.repost is not None:
        reasons.append("it was reposted by an account of the source")
    facts = load_facts(conn, [found.post]).get(found.post)
    if plan.rank.by is RankBy.LATEST or found.pinned:
        reasons.append("posts are ordered by time")
    elif facts is not None:
        hours = max(0, plan.now - facts.at) / 3_600_000_000
        parts |= {
            "score": found.score,
            "hours": round(hours, 2),
            "reactions": count_reactions(facts, plan.rank),
        }
        reasons.append(
            f"its score by {plan.rank.by.value} is {found.score:.6g},"
            f" {hours:.1f} hours after it was posted"
        )
    return Explanation(rank, tuple(reasons), parts)


def _why_absent(
    conn: Conn, feed: RecipeFeed, plan: Plan, post: Address, stored: bool
) -> Iterator[str]:
    compiled = feed.compiled
    document, is_shown = read_document(conn, TEXTS, post)
    if not is_shown:
        yield "the account of the post is not shown"
        return
    if document is None:
        yield "the record was deleted, or it has no text that the index reads"
        return
    if document.sort_at < plan.streams.oldest:
        hours = compiled.recipe.window.total_seconds() / 3600
        span = f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"
        yield f"older than the window of {span}"
        return
    seen = Seen(document)
    if compiled.holds is not None and not compiled.holds(seen):
        yield from _filter_faults(compiled, seen)
        return
    network = [
        source.name
        for bit, source in plan.sources
        if source.kind is SourceKind.EVERYTHING and bit not in compiled.stored_bits
    ]
    matching = [
        source
        for source in compiled.matched
        if document.collection in source.collections
        and compile_query(source.query)(seen)
    ]
    joined = network + [
        source.name
        for _, source in plan.sources
        if source.kind not in MATCHED
        and post.actor in find_accounts(conn, compiled, source, plan.streams.viewer)
    ]
    if not matching and not joined:
        yield "no source finds it"
        for _, source in plan.sources:
            yield f"source {source.name}: {_describe(source)} does not match"
        return
    bits = {bit for bit, _ in plan.sources}
    if not joined and not any(source.bit in bits for source in matching):
        yield "its source is not part of the section for this viewer"
        return
    if matching and stored and find_candidate(conn, compiled.candidates, post) is None:
        yield from _not_stored(find_fill(conn, compiled.candidates))
        return
    yield "it is beyond the posts that are read for one reader"


def _filter_faults(compiled: CompiledRecipe, seen: Seen) -> Iterator[str]:
    for name, holds in compiled.parts:
        if not holds(seen):
            yield f"left out by the filter {name}"


def _not_stored(fill: FillState | None) -> Iterator[str]:
    if fill is None or fill.done_at is None:
        yield "the feed is being filled from the index, and has not reached it yet"
        if fill is not None and fill.error:
            yield f"the filling waits: {fill.error}"
    else:
        yield (
            "it is not stored yet: new posts wait for the search index, and"
            f" {MAX_CANDIDATES} posts are kept for a feed"
        )


def _source_faults(
    conn: Conn, feed: RecipeFeed, plan: Plan, stored: bool
) -> Iterator[str]:
    compiled = feed.compiled
    if stored and any(bit in compiled.stored_bits for bit, _ in plan.sources):
        fill = find_fill(conn, compiled.candidates)
        if fill is None or fill.done_at is None:
            yield from _not_stored(fill)
    for _, source in plan.sources:
        if source.kind in MATCHED:
            continue
        if not find_accounts(conn, compiled, source, plan.streams.viewer):
            yield f"source {source.name}: {_describe(source)} has no accounts"


def _describe(source: Source) -> str:
    values = ", ".join(source.values)
    return f"{source.kind.value} {values[:80]}".strip()
