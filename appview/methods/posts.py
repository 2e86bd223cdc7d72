"""app.bsky.feed.getPosts, getPostThread, getLikes, getRepostedBy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appview.hydration.records import POST, load_records
from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import Params, Pipeline, Runnable
from appview.rules import Effect, Place, decide_record, shown_actors, shown_records
from appview.session import Session
from appview.views.common import created_text, datetime_text
from appview.views.post import parents_view, post_view, thread_view, threadgate_view
from appview.views.profile import profile_view
from network.xrpc.server import XrpcError
from protocol.syntax import parse_at_uri
from storage.collections import (
    COLLECTION_IDS,
    FEED_LIKE,
    LIKE_SUBJECT,
    REPLY_PARENT,
    REPOST_SUBJECT,
)
from storage.records.addresses import find_addresses
from storage.records.documents import Address
from storage.records.links import LinkSource, find_links, link_keyset

LIKE = COLLECTION_IDS[FEED_LIKE]
MAX_URIS = 25
MAX_THREAD_POSTS = 1_000
"""Posts of one answer; a larger thread shows its most recent branches first."""
MAX_REPLIES_A_POST = 200
MAX_DEPTH = 40
MAX_PARENTS = 80


def find_post(session: Session, uri: str) -> Address | None:
    """The address of a post by AT-URI, also by handle; None for nothing we know."""
    parsed = parse_at_uri(uri)
    actor = session.find_actor(str(parsed.authority))
    if actor is None or parsed.rkey is None:
        return None
    row = session.conn.execute(
        "SELECT did FROM actor WHERE id = %s", (actor,)
    ).fetchone()
    plain = f"at://{row[0]}/{parsed.collection}/{parsed.rkey}" if row else uri
    return find_addresses(session.conn, [plain]).get(plain)


def _find_posts(session: Session, params: Params) -> list[Address]:
    uris: list[str] = params["uris"]
    if len(uris) > MAX_URIS:
        raise XrpcError("InvalidRequest", f"at most {MAX_URIS} uris", 400)
    found = find_addresses(session.conn, uris)
    return list(dict.fromkeys(found[uri] for uri in uris if uri in found))


GET_POSTS: Pipeline[list[Address]] = Pipeline(
    skeleton=_find_posts,
    hydrate=lambda state, posts: state.load_posts(posts),
    rules=lambda state, posts: shown_records(state, Place.POST, posts),
    present=lambda state, posts, _: {"posts": [post_view(state, a) for a in posts]},
)


@dataclass(frozen=True, slots=True)
class _Thread:
    """A post, those above it upwards, and replies by the post that they answer.

    Posts whose replies were not looked for have no entry. Each post is there once.
    """

    post: Address
    parents: list[Address]
    replies: dict[Address, list[Address]]


def _find_thread(session: Session, params: Params) -> _Thread:
    post = find_post(session, params["uri"])
    if post is None or post.collection != POST:
        raise _post_not_found(params)
    depth = min(params["depth"], MAX_DEPTH)
    height = min(params["parentHeight"], MAX_PARENTS)
    parents = _find_parents(session, post, height)
    return _Thread(post, parents, _find_replies(session, post, depth, {post, *parents}))


def _post_not_found(params: Params) -> XrpcError:
    return XrpcError("NotFound", f"Post not found: {params['uri']}", 400)


def _find_parents(session: Session, post: Address, height: int) -> list[Address]:
    rows = session.conn.execute(
        """
        WITH RECURSIVE above(actor, rkey, parent_actor, parent_rkey, height) AS (
            SELECT actor, rkey, parent_actor, parent_rkey, 0 FROM post
            WHERE actor = %s AND rkey = %s
            UNION ALL
            SELECT p.actor, p.rkey, p.parent_actor, p.parent_rkey, a.height + 1
            FROM above a
            JOIN post p ON p.actor = a.parent_actor AND p.rkey = a.parent_rkey
            WHERE a.height < %s
        )
        SELECT parent_actor, parent_rkey FROM above
        WHERE parent_actor IS NOT NULL AND height < %s ORDER BY height
        """,
        (post.actor, post.rkey, height, height),
    )
    parents: dict[Address, None] = {}
    for actor, rkey in rows:
        parent = Address(actor, POST, rkey)
        if parent == post or parent in parents:
            break  # a ring of posts
        parents[parent] = None
    return [*parents]


def _find_replies(
    session: Session, post: Address, depth: int, seen: set[Address]
) -> dict[Address, list[Address]]:
    """Return replies by the post they answer: a query a level, without posts `seen`."""
    found: dict[Address, list[Address]] = {}
    level, total = [post], 1
    for _ in range(depth):
        if not level or total >= MAX_THREAD_POSTS:
            break
        session.context.check_client()
        found |= {each: [] for each in level}
        rows = session.conn.execute(
            """
            SELECT x.a, x.k, r.actor, r.rkey
            FROM unnest(%s::int4[], %s::int8[]) AS x(a, k)
            CROSS JOIN LATERAL (
                SELECT actor, rkey FROM link
                WHERE path = %s AND target_rkey = x.k AND target_actor = x.a
                  AND target_collection = %s
                ORDER BY sort_at DESC, rkey DESC LIMIT %s
            ) r
            """,
            (
                [a.actor for a in level],
                [a.rkey for a in level],
                REPLY_PARENT,
                POST,
                MAX_REPLIES_A_POST,
            ),
        ).fetchall()
        level = []
        for actor, rkey, by, key in rows:
            reply = Address(by, POST, key)
            if reply in seen or total + len(level) >= MAX_THREAD_POSTS:
                continue
            seen.add(reply)
            found[Address(actor, POST, rkey)].append(reply)
            level.append(reply)
        total += len(level)
    return found


def _load_thread(state: State, thread: _Thread) -> None:
    replies = [reply for below in thread.replies.values() for reply in below]
    # The post that was asked for, before others use up what an answer may hold.
    state.load_posts([thread.post])
    state.load_posts([*thread.parents, *replies])
    state.name(thread.parents)


def _present_thread(state: State, thread: _Thread, params: Params) -> dict[str, Any]:
    if decide_record(state, Place.ANCHOR, thread.post) is Effect.NOT_FOUND:
        raise _post_not_found(params)
    parent = parents_view(state, thread.post, thread.parents)
    view = thread_view(state, thread.post, params["uri"], thread.replies, parent=parent)
    root = state.posts[thread.post].root or thread.post
    gate = threadgate_view(state, root)
    return {"thread": view, **({"threadgate": gate} if gate else {})}


GET_POST_THREAD: Pipeline[_Thread] = Pipeline(
    skeleton=_find_thread,
    hydrate=_load_thread,
    rules=lambda state, thread: thread,
    present=_present_thread,
)


def _reactions(session: Session, params: Params, path: int) -> Source[LinkSource]:
    post = find_post(session, params["uri"])
    if post is None:
        return Source(lambda after, limit: [])
    target = (post.actor, post.collection, post.rkey)

    def fetch(after: Keyset | None, limit: int) -> list[Entry[LinkSource]]:
        page = find_links(session.conn, path, target, limit=limit, after=after)
        return [Entry(link, link_keyset(page, after, link)) for link in page[0]]

    return Source(fetch, target)


def _shown_likes(state: State, page: Page[LinkSource]) -> list[LinkSource]:
    author = page.subject[0] if page.subject else None
    actors = [link.actor for link in page.items]
    return _only(page, shown_actors(state, Place.LIKE, actors, beside=author))


def _shown_reposts(state: State, page: Page[LinkSource]) -> list[LinkSource]:
    actors = [link.actor for link in page.items]
    return _only(page, shown_actors(state, Place.REPOSTER, actors))


def _only(page: Page[LinkSource], actors: list[int]) -> list[LinkSource]:
    shown = {*actors}
    return [link for link in page.items if link.actor in shown]


def _present_likes(
    state: State, page: Page[LinkSource], params: Params
) -> dict[str, Any]:
    return {
        "uri": params["uri"],
        **({"cid": params["cid"]} if "cid" in params else {}),
        "likes": [
            {
                "actor": profile_view(state, state.actors[link.actor]),
                "createdAt": _like_created(state, link),
                "indexedAt": datetime_text(link.sort_at),
            }
            for link in page.items
        ],
    }


def _like_created(state: State, link: LinkSource) -> str:
    record = state.records.get(Address(link.actor, LIKE, link.rkey))
    return created_text(record.value) if record else datetime_text(link.sort_at)


def _load_likes(state: State, page: Page[LinkSource]) -> None:
    state.load_actors(link.actor for link in page.items)
    likes = [Address(link.actor, LIKE, link.rkey) for link in page.items]
    state.records |= load_records(state.session.conn, likes, state.allowance)


def _load_reposters(state: State, page: Page[LinkSource]) -> None:
    state.load_actors(link.actor for link in page.items)


def _present_reposts(
    state: State, page: Page[LinkSource], params: Params
) -> dict[str, Any]:
    return {
        "uri": params["uri"],
        **({"cid": params["cid"]} if "cid" in params else {}),
        "repostedBy": [
            profile_view(state, state.actors[link.actor]) for link in page.items
        ],
    }


def _reaction_pages(
    path: int, hydrate: Any, rules: Any, present: Any
) -> RowPages[LinkSource]:
    return RowPages(
        lambda session, params: _reactions(session, params, path),
        Steps(
            hydrate=hydrate,
            rules=rules,
            present=present,
        ),
    )


METHODS: dict[str, Runnable] = {
    "app.bsky.feed.getPosts": GET_POSTS,
    "app.bsky.feed.getPostThread": GET_POST_THREAD,
    "app.bsky.feed.getLikes": _reaction_pages(
        LIKE_SUBJECT, _load_likes, _shown_likes, _present_likes
    ),
    "app.bsky.feed.getRepostedBy": _reaction_pages(
        REPOST_SUBJECT, _load_reposters, _shown_reposts, _present_reposts
    ),
}
