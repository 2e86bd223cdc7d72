"""app.bsky.notification.getUnreadCount: up to a hundred, which clients show as 30+."""

from __future__ import annotations

from typing import Any, Final

from appview.app_bsky.notification.list_notifications import refuse_seen_at
from appview.hydration.notices import load_notices
from appview.hydration.state import State
from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.notices import open_inbox
from network.xrpc.server import AuthMode

MAX_UNREAD: Final = 100
_MAX_ROUNDS: Final = 3


class _GetUnreadCount(BlockingMethod):
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        refuse_seen_at(params)
        inbox = open_inbox(context, None, params.get("priority"))
        since = inbox.settings.seen_at
        count, after = 0, None
        with context.session() as session:
            for _ in range(_MAX_ROUNDS):
                found = inbox.fetch(session, MAX_UNREAD, after=after, since=since)
                state = State(session)
                wanted = inbox.wanted(found)
                load_notices(state, wanted)
                count += sum(
                    inbox.shown_cause(state, notice) is not None for notice in wanted
                )
                if count >= MAX_UNREAD or len(found) < MAX_UNREAD:
                    break
                after = found[-1].key
        return {"count": min(count, MAX_UNREAD)}


METHOD: Final = _GetUnreadCount()
