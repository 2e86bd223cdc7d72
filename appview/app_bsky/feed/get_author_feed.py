"""app.bsky.feed.getAuthorFeed."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.refusals import refuse_author
from appview.rules import Place, shown_items
from appview.session import Session
from appview.shapes.feed import present_feed
from appview.skeletons.author_feed import (
    AUTHOR_THREADS,
    END,
    fetch_author_feed,
    find_pin,
    find_self_threads,
)
from feeds.skeleton import SkeletonItem
from network.xrpc.server import XrpcError


def _author_feed(session: Session, params: Params) -> Source[SkeletonItem]:
    actor = session.find_actor(params["actor"])
    if actor is None:
        raise XrpcError("InvalidRequest", "Profile not found", 400)
    wanted = params.get("filter", "posts_with_replies")
    pin = find_pin(session, actor) if params.get("includePins") else None

    def fetch(after: Keyset | None, limit: int) -> list[Entry[SkeletonItem]]:
        entries = fetch_author_feed(session.conn, actor, wanted, pin, after, limit)
        if pin is not None and after is None:
            entries.insert(0, Entry(SkeletonItem(pin, pinned=True), [END, 0, 0]))
        return entries

    return Source(fetch, [actor, wanted])


def _load(state: State, page: Page[SkeletonItem]) -> None:
    with state.together():
        state.load_actors([page.subject[0]])
        state.load_feed(page.items)


def _shown(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    actor, wanted = page.subject
    refuse_author(state, actor)
    shown = shown_items(state, Place.AUTHOR_ITEM, page.items)
    if wanted != AUTHOR_THREADS:
        return shown
    posts = {item.post for item in shown if not (item.repost or item.pinned)}
    kept = find_self_threads(state, actor, posts)
    return [i for i in shown if i.repost or i.pinned or i.post in kept]


METHOD: Final[RowPages[SkeletonItem]] = RowPages(
    _author_feed, Steps(hydrate=_load, rules=_shown, present=present_feed)
)
