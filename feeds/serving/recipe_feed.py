"""Pages of recipes: slices of chunks, checked against the index at each request."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from feeds.opt_outs import find_opted_out
from feeds.recipes.compiling import CompiledRecipe
from feeds.recipes.recipe import (
    PERSONAL,
    Audience,
    Kept,
    Mix,
    Rank,
    RankBy,
    Recipe,
    Section,
    Source,
)
from feeds.serving.candidates import Key
from feeds.serving.chunks import MAX_HELD, Chunk, Plan, Positions, build_chunk
from feeds.serving.ordering import Found
from feeds.serving.post_facts import find_existing, find_followed
from feeds.serving.streams import (
    Decisions,
    ReadCandidates,
    Streams,
    stored_reader,
)
from feeds.skeleton import (
    Algorithm,
    FeedRequest,
    SkeletonEntry,
    SkeletonItem,
    ViewerRequiredError,
)
from feeds.snapshots import Held, Moments
from protocol.data.graphemes import cut_text
from storage.collections import FOLLOW_SUBJECT
from storage.postgres.fetch import fetch_int
from storage.postgres.instants import from_micros, to_micros
from storage.postgres.pool import Conn
from storage.records.addresses import Address, name_addresses_in
from storage.records.links import partition_of

MAX_CHUNKS: Final = 60
"""Chunks that are read for one page of a recipe whose filters leave out most posts."""
_FIRST: Final = -1
_CONTEXT: Final = 500
"""Characters of a feed context; clients refuse more than 2,000 bytes."""
_DRAFTS: Final = count(1)


class Shared:
    """Chunks, decisions and frozen moments that all feeds of a process share."""

    def __init__(self) -> None:
        self.chunks: Held[Chunk] = Held(MAX_HELD)
        self.decisions = Decisions()
        self.moments = Moments()


class RecipeFeed:
    """A compiled recipe as the algorithm of a feed."""

    def __init__(
        self,
        compiled: CompiledRecipe,
        shared: Shared,
        read: ReadCandidates | None = None,
    ) -> None:
        self.compiled = compiled
        self._shared = shared
        self._read = read or stored_reader(compiled.candidates)
        # Two drafts never share chunks, since each found its own candidates.
        draft = None if read is None else next(_DRAFTS)
        self._identity = (repr(compiled.recipe), compiled.candidates, draft)

    @property
    def algorithm(self) -> Algorithm:
        """Return the feed as providers serve it."""
        recipe = self.compiled.recipe
        return Algorithm(
            name=recipe.name,
            display_name=recipe.title,
            description=recipe.description,
            build=self.build,
            personal=is_personal(recipe),
            uses_feedback=recipe.live.not_seen,
            video=recipe.video,
        )

    def build(self, conn: Conn, request: FeedRequest) -> list[SkeletonEntry]:
        """Return a page of entries. Raises ViewerRequiredError."""
        entries: list[SkeletonEntry] = []
        for found, keyset in self.walk(conn, request):
            entries.append(
                SkeletonEntry(
                    SkeletonItem(
                        found.post,
                        found.repost,
                        found.pinned,
                        self.context_of(found),
                    ),
                    keyset,
                )
            )
            if len(entries) == request.limit:
                break
        return entries

    def walk(
        self, conn: Conn, request: FeedRequest
    ) -> Iterator[tuple[Found, list[Any]]]:
        """Yield posts that may be shown, with the keyset of each.

        Raises ViewerRequiredError.
        """
        now, positions, index, item = self._read_keyset(request)
        plan = self.plan(conn, request.viewer, now)
        start = plan.first() if positions is None else positions
        if len(start) != len(plan.groups):
            # The recipe has changed since the reader's last page.
            start, index, item = plan.first(), _FIRST, None
        for _ in range(MAX_CHUNKS):
            chunk = self.chunk(conn, plan, start)
            if request.after is None and request.now is None:
                self._shared.moments.settle(self._identity, now)
            begin = _place_after(chunk, index, item)
            yield from self._shown(conn, request, plan, chunk, start, begin)
            if chunk.after is None:
                return
            start, index, item = chunk.after, _FIRST, None

    def chunk(self, conn: Conn, plan: Plan, start: Positions) -> Chunk:
        """Return a chunk, from memory if it is there."""
        viewer = plan.streams.viewer
        personal = any(s.kind in PERSONAL for _, s in plan.sources) or any(
            by is RankBy.CO_LIKES
            for by in (plan.rank.by, *(s.rank for _, s in plan.sources))
        )
        key = (
            self._identity,
            plan.rank,
            plan.groups,
            plan.sticky,
            plan.now,
            start,
            viewer if personal else None,
        )
        return self._shared.chunks.get(key, lambda: build_chunk(conn, plan, start))

    def plan(self, conn: Conn, viewer: int | None, now: int) -> Plan:
        """Return the sources and the order for a viewer. Raises ViewerRequiredError."""
        recipe = self.compiled.recipe
        if viewer is None and recipe.sign_in:
            raise ViewerRequiredError("this feed needs a signed-in account")
        section = choose_section(conn, recipe, viewer)
        names = section.sources if section is not None else None
        sources = [
            (bit, source)
            for bit, source in enumerate(recipe.sources)
            if (names is None or source.name in names)
            and (viewer is not None or source.kind not in PERSONAL)
        ]
        if not sources or (viewer is None and recipe.live.followed is Kept.ONLY):
            raise ViewerRequiredError("this feed needs a signed-in account")
        rank = (section.rank if section is not None else None) or recipe.rank
        sticky = section.sticky if section is not None else None
        return Plan(
            Streams(
                self.compiled,
                viewer,
                from_micros(now) - recipe.window,
                self._read,
                self._shared.decisions,
            ),
            rank,
            _groups(sources, rank),
            recipe.sticky if sticky is None else sticky,
            now,
        )

    def page_faults(
        self, conn: Conn, request: FeedRequest, now: int, found: Sequence[Found]
    ) -> dict[Address, str]:
        """Return the posts that may not be shown to the reader, each with the reason.

        What is checked here changes at any time: deletes, accounts, opt-outs, follows.
        """
        posts = [each.post for each in found]
        reposters = {each.repost.actor for each in found if each.repost is not None}
        existing = find_existing(conn, posts)
        authors = {post.actor for post in existing} | reposters
        out = find_left_out(conn, authors, request.viewer)
        live = self.compiled.recipe.live
        followed: set[int] = set()
        if live.followed is not Kept.ANY and request.viewer is not None:
            followed = find_followed(conn, request.viewer, authors)
        seen = self._find_seen(conn, request, now, posts)
        faults: dict[Address, str] = {}
        for each in found:
            post = each.post
            if post not in existing:
                faults[post] = "the post was deleted, or its account is not shown"
            elif post.actor in out:
                faults[post] = "its author has opted out of algorithmic feeds"
            elif each.repost is not None and each.repost.actor in out:
                faults[post] = "its reposter has opted out of algorithmic feeds"
            elif live.followed is Kept.ONLY and post.actor not in followed:
                faults[post] = "followed: the viewer does not follow its author"
            elif live.followed is Kept.NO and post.actor in followed:
                faults[post] = "followed: the viewer follows its author"
            elif post in seen:
                faults[post] = "not_seen: the viewer has seen it"
        return faults

    def context_of(self, found: Found) -> str:
        """Return the names of the sources that found a post."""
        names = [
            source.name
            for bit, source in enumerate(self.compiled.recipe.sources)
            if found.sources & (1 << bit)
        ]
        text = "sticky" if found.pinned else ", ".join(names)
        return cut_text(text, graphemes=_CONTEXT, size=4 * _CONTEXT)

    def _shown(
        self,
        conn: Conn,
        request: FeedRequest,
        plan: Plan,
        chunk: Chunk,
        start: Positions,
        begin: int,
    ) -> Iterator[tuple[Found, list[Any]]]:
        positions = None if start == plan.first() else [*map(_flat, start)]
        step = request.limit + 10
        for at in range(begin, len(chunk.posts), step):
            piece = chunk.posts[at : at + step]
            faults = self.page_faults(conn, request, plan.now, piece)
            for place, each in enumerate(piece, at):
                if each.post not in faults:
                    yield (
                        each,
                        [plan.now, positions, place, *(each.repost or each.post)],
                    )

    def _read_keyset(
        self, request: FeedRequest
    ) -> tuple[int, Positions | None, int, Address | None]:
        if request.after is None:
            if request.now is not None:
                return to_micros(request.now), None, _FIRST, None
            now = to_micros(datetime.now(UTC))
            return self._shared.moments.freeze(self._identity, now), None, _FIRST, None
        frozen, positions, index, *item = request.after
        start = None
        if positions is not None:
            start = tuple(None if p is None else Key(*p) for p in positions)
        return frozen, start, index, Address(*item)

    def _find_seen(
        self, conn: Conn, request: FeedRequest, now: int, posts: Collection[Address]
    ) -> set[Address]:
        if not self.compiled.recipe.live.not_seen or not request.feedback.seen:
            return set()
        uris = name_addresses_in(conn, posts)
        return {a for a, uri in uris.items() if request.feedback.has_seen(uri, now)}


def _flat(key: Key | None) -> list[int] | None:
    return None if key is None else [*key]


def _groups(
    sources: list[tuple[int, Source]], rank: Rank
) -> tuple[tuple[tuple[int, Source], ...], ...]:
    if rank.mix is Mix.INTERLEAVE:
        return tuple((each,) for each in sources)
    return (tuple(sources),)


def _place_after(chunk: Chunk, index: int, item: Address | None) -> int:
    """Return the place behind the reader's last item, which may have moved."""
    if item is None:
        return 0

    def is_it(place: int) -> bool:
        each = chunk.posts[place]
        return (each.repost or each.post) == item

    if 0 <= index < len(chunk.posts) and is_it(index):
        return index + 1
    for place in range(len(chunk.posts)):
        if is_it(place):
            return place + 1
    return min(index, len(chunk.posts))


def is_personal(recipe: Recipe) -> bool:
    """Return True if nothing is served without a viewer."""
    if recipe.sign_in or recipe.live.followed is Kept.ONLY:
        return True
    names: Collection[str] | None = None
    for section in recipe.sections:
        if section.audience is Audience.SIGNED_OUT:
            names = section.sources
    return all(
        source.kind in PERSONAL
        for source in recipe.sources
        if names is None or source.name in names
    )


def choose_section(conn: Conn, recipe: Recipe, viewer: int | None) -> Section | None:
    """Return the section for a viewer, None for the recipe as it is."""
    by_audience = {section.audience: section for section in recipe.sections}
    if viewer is None:
        return by_audience.get(Audience.SIGNED_OUT)
    new = by_audience.get(Audience.NEW)
    if new is not None and _count_follows(conn, viewer, new.follows_below) < (
        new.follows_below
    ):
        return new
    return by_audience.get(Audience.RETURNING)


def _count_follows(conn: Conn, viewer: int, most: int) -> int:
    return fetch_int(
        conn,
        "SELECT count(*) FROM (SELECT FROM"
        f" {partition_of(FOLLOW_SUBJECT)} WHERE actor = %s AND path = %s LIMIT %s) x",
        (viewer, FOLLOW_SUBJECT, most),
    )


def find_left_out(
    conn: Conn, accounts: Collection[int], viewer: int | None
) -> set[int]:
    """Return the accounts that have opted out, except those that the viewer follows."""
    out = find_opted_out(conn, accounts)
    if not out or viewer is None:
        return out
    return out - {viewer} - find_followed(conn, viewer, out)
