"""app.bsky.notification.listNotifications."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.notices import load_notices
from appview.hydration.state import State
from appview.paging import Entry, Keyset, Page, RowPages, Source, Steps
from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext, Session
from appview.shapes.notices import Inbox, open_inbox
from appview.skeletons.notifications import Cause, Notice, NoticeKey
from appview.views.common import datetime_text, present
from appview.views.notification import notification_view
from network.xrpc.server import AuthMode, XrpcError
from storage.postgres.instants import from_micros


class _ListNotifications(BlockingMethod):
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        refuse_seen_at(params)
        inbox = open_inbox(context, params.get("reasons"), params.get("priority"))
        return _pages(inbox, is_first="cursor" not in params).run(context, params)


def refuse_seen_at(params: Params) -> None:
    """Raise XrpcError for a parameter that no server reads."""
    if "seenAt" in params:
        raise XrpcError("InvalidRequest", "The seenAt parameter is unsupported", 400)


def _pages(inbox: Inbox, *, is_first: bool) -> RowPages[Notice]:
    def source(session: Session, _: Params) -> Source[Notice]:
        def fetch(after: Keyset | None, limit: int) -> list[Entry[Notice]]:
            key = None if after is None else (after[0], after[1], after[2], after[3])
            found = inbox.fetch(session, limit, after=key)
            return [Entry(notice, [*notice.key]) for notice in found]

        return Source(fetch, [session.viewer_actor])

    causes: dict[NoticeKey, Cause] = {}

    def shown(state: State, page: Page[Notice]) -> list[Notice]:
        kept = []
        for notice in inbox.wanted(page.items):
            cause = inbox.shown_cause(state, notice)
            if cause is not None:
                causes[notice.key] = cause
                kept.append(notice)
        return kept

    def view(state: State, page: Page[Notice], _: Params) -> dict[str, Any]:
        seen_at = inbox.settings.seen_at
        if seen_at is None and is_first and page.items:
            # Without a marker, the newest counts as unread and all others as read.
            seen_at = from_micros(page.items[0].sort_us)
        return present(
            notifications=[
                notification_view(state, notice, causes[notice.key], seen_at)
                for notice in page.items
            ],
            priority=inbox.priority,
            seenAt=None if seen_at is None else datetime_text(seen_at),
        )

    return RowPages(
        source,
        Steps(
            hydrate=lambda state, page: load_notices(state, inbox.wanted(page.items)),
            rules=shown,
            present=view,
        ),
        auth="required",
    )


METHOD: Final = _ListNotifications()
