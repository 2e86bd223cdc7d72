"""Pages of feeds that another service computes, once they are fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from appview.app import ForeignItem, ForeignSkeleton
from appview.hydration.records import POST
from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, shown_items
from appview.session import Session
from appview.views.post import feed_view_post
from feeds.skeleton import SkeletonItem
from storage.collections import COLLECTION_IDS, FEED_REPOST, REPOST_SUBJECT
from storage.records.addresses import Address, find_addresses

REASON_PIN: Final = "app.bsky.feed.defs#reasonPin"
_REPOST_COLLECTION: Final = COLLECTION_IDS[FEED_REPOST]


@dataclass(frozen=True, slots=True)
class ForeignPage:
    """A fetched page: the items that are in the index, as the service named them."""

    items: list[tuple[SkeletonItem, ForeignItem]]
    skeleton: ForeignSkeleton


def foreign_feed(skeleton: ForeignSkeleton) -> Pipeline[ForeignPage]:
    """Return the pipeline of a skeleton that has already been fetched."""

    def find(session: Session, params: Params) -> ForeignPage:
        uris = [uri for i in skeleton.items for uri in (i.post, i.repost) if uri]
        found = find_addresses(session.conn, uris)
        entries: list[tuple[SkeletonItem, ForeignItem]] = []
        for item in skeleton.items:
            post = found.get(item.post)
            repost = found.get(item.repost) if item.repost else None
            if post is not None and (repost is not None or not item.repost):
                entries.append((SkeletonItem(post, repost), item))
        claims = {(i.repost, i.post) for i, _ in entries if i.repost is not None}
        real = _real_reposts(session, claims)
        return ForeignPage(
            [
                (entry, item)
                for entry, item in entries
                if entry.repost is None or (entry.repost, entry.post) in real
            ],
            skeleton,
        )

    return Pipeline(
        skeleton=find,
        hydrate=lambda state, page: state.load_feed(item for item, _ in page.items),
        rules=_shown,
        present=_present,
    )


def _real_reposts(
    session: Session, claims: set[tuple[Address, Address]]
) -> set[tuple[Address, Address]]:
    """Return the (repost, post) pairs that exist; the service may invent some."""
    if not claims:
        return set()
    rows = session.conn.execute(
        """
        SELECT actor, rkey, target_actor, target_rkey FROM link
        WHERE path = %s AND target_collection = %s AND (actor, rkey) IN (
            SELECT * FROM unnest(%s::int4[], %s::int8[]))
        """,
        (
            REPOST_SUBJECT,
            POST,
            [repost.actor for repost, _ in claims],
            [repost.rkey for repost, _ in claims],
        ),
    ).fetchall()
    found = set(rows)
    return {
        (repost, post)
        for repost, post in claims
        if repost.collection == _REPOST_COLLECTION
        and (repost.actor, repost.rkey, post.actor, post.rkey) in found
    }


def _shown(state: State, page: ForeignPage) -> ForeignPage:
    shown = set(shown_items(state, Place.FEED_ITEM, [item for item, _ in page.items]))
    items = [pair for pair in page.items if pair[0] in shown]
    return ForeignPage(items, page.skeleton)


def _present(state: State, page: ForeignPage, _: Params) -> dict[str, Any]:
    feed = []
    for shown, item in page.items:
        entry = feed_view_post(state, shown)
        if item.pinned:
            entry["reason"] = {"$type": REASON_PIN}
        if item.context is not None:
            entry["feedContext"] = item.context
        if page.skeleton.req_id is not None:
            entry["reqId"] = page.skeleton.req_id
        feed.append(entry)
    cursor = page.skeleton.cursor
    return {"feed": feed, **({"cursor": cursor} if cursor is not None else {})}
