"""Accounts that reacted to a post: likes and reposts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params
from appview.session import Session
from appview.skeletons.thread import find_post
from storage.records.backlinks import LinkSource, find_links, link_keyset

ReactionPage = Page[LinkSource]


def reaction_pages(
    path: int,
    name: str,
    *,
    rules: Callable[[State, ReactionPage], list[int]],
    view: Callable[[State, LinkSource], dict[str, Any]],
    hydrate: Callable[[State, ReactionPage], None] = lambda state, page: None,
) -> RowPages[LinkSource]:
    """Return pages of the links with a path to a post, in the field `name`.

    `rules` returns the accounts to show.
    """

    def source(session: Session, params: Params) -> Source[LinkSource]:
        post = find_post(session, params["uri"])
        if post is None:
            return Source(lambda after, limit: [])
        target = (post.actor, post.collection, post.rkey)

        def fetch(after: Keyset | None, limit: int) -> list[Entry[LinkSource]]:
            page = find_links(session.conn, path, target, limit=limit, after=after)
            return [Entry(link, link_keyset(page, after, link)) for link in page[0]]

        return Source(fetch, target)

    def load(state: State, page: ReactionPage) -> None:
        state.load_actors(link.actor for link in page.items)
        hydrate(state, page)

    def shown(state: State, page: ReactionPage) -> list[LinkSource]:
        actors = {*rules(state, page)}
        return [link for link in page.items if link.actor in actors]

    def present(state: State, page: ReactionPage, params: Params) -> dict[str, Any]:
        return {
            "uri": params["uri"],
            **({"cid": params["cid"]} if "cid" in params else {}),
            name: [view(state, link) for link in page.items],
        }

    return RowPages(source, Steps(hydrate=load, rules=shown, present=present))
