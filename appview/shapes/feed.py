"""Feeds in pages: a source of items, hydrated, without what the rules hide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from time import perf_counter
from typing import Any, Final

from appview.hydration.state import State
from appview.paging import (
    Cursors,
    Entry,
    Keyset,
    Page,
    RowPages,
    Source,
    Steps,
)
from appview.pipeline import BlockingMethod, Params
from appview.rules import Place, shown_items
from appview.session import RequestContext, Session
from appview.skeletons.generators import find_served
from appview.views.post import feed_view_post
from feeds.feedback import NO_FEEDBACK, Feedback
from feeds.read_access import ReadAccess
from feeds.serving.recipe_feed import find_left_out
from feeds.skeleton import (
    Algorithm,
    FeedFailedError,
    FeedRequest,
    SkeletonItem,
    ViewerRequiredError,
)
from network.xrpc.server import AuthMode, XrpcError
from protocol.syntax import is_did, parse_at_uri
from storage.private.feeds.feed_feedback import load_told

MAX_NAME: Final = 60
"""Characters of a feed's name in the name of an answer."""
Rules = Callable[[State, Page[SkeletonItem]], list[SkeletonItem]]


def _shown(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    return shown_items(state, Place.FEED_ITEM, page.items)


def recommended(state: State, page: Page[SkeletonItem]) -> list[SkeletonItem]:
    """Return shown items, without accounts that opted out of algorithmic feeds."""
    return without_opted_out(state.session, _shown(state, page))


def without_opted_out(
    session: Session, items: list[SkeletonItem]
) -> list[SkeletonItem]:
    """Return items without those of accounts that opted out of algorithmic feeds.

    Accounts that the viewer follows stay.
    """
    accounts = {a.actor for i in items for a in (i.post, i.repost) if a is not None}
    out = find_left_out(session.conn, accounts, session.viewer_actor)
    return [
        item
        for item in items
        if item.post.actor not in out
        and (item.repost is None or item.repost.actor not in out)
    ]


def feed_pages(
    source: Callable[[Session, Params], Source[SkeletonItem]],
    rules: Rules = _shown,
    *,
    auth: AuthMode = "optional",
) -> RowPages[SkeletonItem]:
    """Return the pages of a feed or timeline."""
    return RowPages(
        source,
        replace(FEED_STEPS, rules=rules),
        auth=auth,
    )


@dataclass(frozen=True, slots=True)
class OwnFeedPages(BlockingMethod):
    """Pages of a feed of this provider, counted, with the reader's feedback."""

    pages: RowPages[SkeletonItem]
    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        started = perf_counter()
        try:
            prepare_feed(context, _algorithm(context, params["feed"]), params)
        except FeedFailedError as error:
            context.app.feed_counters.count_failure(params["feed"])
            raise feed_failure(error) from error
        body = self.pages.run(context, params)
        context.app.feed_counters.count_page(
            params["feed"],
            context.viewer_did,
            len(body["feed"]),
            perf_counter() - started,
        )
        return body


def _algorithm(context: RequestContext, feed: str) -> Algorithm | None:
    uri = parse_at_uri(feed)
    owner, rkey = str(uri.authority), str(uri.rkey)
    served = context.feeds().find(owner, rkey, context.app.service_did)
    return None if served is None else served.algorithm


def prepare_feed(
    context: RequestContext, algorithm: Algorithm | None, params: Params
) -> None:
    """Read what a feed needs while no connection of the index is held.

    Raises FeedFailedError.
    """
    context.feedback = load_feedback(context, algorithm)
    if algorithm is None or algorithm.prepare is None:
        return
    app = context.app
    access = ReadAccess(
        app.pool,
        app.private,
        app.engine,
        app.service_did,
        context.feeds().find_recipe,
        app.co_likes,
    )
    after = Cursors(context, params).open()
    try:
        context.ranking = algorithm.prepare(access, context.viewer_did, after)
    except ViewerRequiredError as error:
        raise XrpcError("AuthMissing", str(error), 401) from error


def feed_failure(error: FeedFailedError) -> XrpcError:
    """Return the error that clients get for a feed whose algorithm failed."""
    return XrpcError("FeedFailed", str(error), 503)


def load_feedback(context: RequestContext, algorithm: Algorithm | None) -> Feedback:
    """Return the feedback of the reader, if the feed uses it."""
    did = context.viewer_did
    if algorithm is None or not algorithm.uses_feedback:
        return NO_FEEDBACK
    if did is None or not is_did(did):
        return NO_FEEDBACK
    account = context.app.vault.account(did)
    with context.app.private.read() as conn:
        told = load_told(conn, account)
    return Feedback(account, told.seen, told.less, told.more)


def request_id(
    state: State, page: Page[SkeletonItem], params: Params
) -> dict[str, str]:
    """Return `{"reqId": …}` for a page with reasons: clients send it back.

    The same page has the same id.
    """
    if not any(item.feed_context for item in page.items):
        return {}
    name = params["feed"].rsplit("/", 1)[-1]
    shown = "\n".join(state.uris[item.post] for item in page.items)
    digest = sha256(shown.encode()).hexdigest()
    return {"reqId": f"{name[:MAX_NAME]}.{digest[:12]}"}


def present_own_feed(
    state: State, page: Page[SkeletonItem], params: Params
) -> dict[str, Any]:
    """Return the JSON of a feed of this provider, with the reason of each item."""
    named = request_id(state, page, params)
    feed = []
    for item in page.items:
        entry = feed_view_post(state, item) | named
        if item.feed_context:
            entry["feedContext"] = item.feed_context
        feed.append(entry)
    return {"feed": feed}


def own_feed_pages(
    source: Callable[[Session, Params], Source[SkeletonItem]],
) -> RowPages[SkeletonItem]:
    """Return the hydrated pages of a feed that this provider computes."""
    return RowPages(
        source, replace(FEED_STEPS, rules=recommended, present=present_own_feed)
    )


def present_feed(state: State, page: Page[SkeletonItem], _: Params) -> dict[str, Any]:
    """Return the JSON of a feed."""
    return {"feed": [feed_view_post(state, item) for item in page.items]}


def own_feed(session: Session, params: Params) -> Source[SkeletonItem]:
    """Return the items of a feed that this provider computes."""
    served = find_served(session, params["feed"])
    if served is None:
        raise XrpcError(
            "UnknownFeed", f"this provider does not serve {params['feed']}", 400
        )

    return feed_source(session, served.algorithm)


def feed_source(session: Session, algorithm: Algorithm) -> Source[SkeletonItem]:
    """Return the items of an algorithm for the viewer."""

    def fetch(after: Keyset | None, limit: int) -> list[Entry[SkeletonItem]]:
        request = FeedRequest(
            session.viewer_actor,
            limit,
            after,
            feedback=session.context.feedback,
            co_likes=session.app.co_likes,
            ranking=session.context.ranking,
        )
        try:
            entries = algorithm.build(session.conn, request)
        except ViewerRequiredError as error:
            raise XrpcError("AuthMissing", str(error), 401) from error
        return [Entry(entry.item, entry.keyset) for entry in entries]

    return Source(fetch)


FEED_STEPS: Final[Steps[SkeletonItem]] = Steps(
    hydrate=lambda state, page: state.load_feed(page.items),
    rules=_shown,
    present=present_feed,
)
"""Steps of all feeds."""
