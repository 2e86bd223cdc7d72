"""app.bsky.draft.getDrafts: the viewer's drafts, the last changed first."""

from __future__ import annotations

from typing import Any, Final

from appview.paging import Cursors
from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.procedure import private_account_of
from appview.views.common import datetime_text
from network.xrpc.server import AuthMode
from storage.postgres.instants import from_micros, to_micros
from storage.private.private_items import Item, Kind, find_items


class _GetDrafts(BlockingMethod):
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        viewer = private_account_of(context)
        cursors = Cursors(context, params, [viewer.id.hex()])
        after, limit = cursors.open(), params["limit"]
        keyset = (from_micros(after[0]), after[1]) if after else None
        with context.app.private.read() as conn:
            items = find_items(conn, viewer, Kind.DRAFT, limit + 1, keyset)
        page = items[:limit]
        end = page[-1] if len(items) > limit else None
        return {
            "drafts": [_view(item) for item in page],
            **cursors.seal(None if end is None else [to_micros(end.at), end.subject]),
        }


def _view(item: Item) -> dict[str, Any]:
    return {**item.value, "updatedAt": datetime_text(item.at)}


METHOD: Final = _GetDrafts()
