"""bigworld.account.exportPrivateData."""

from __future__ import annotations

from typing import Any, Final

from appview.paging import Cursors
from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.procedure import private_account_of
from network.xrpc.server import AuthMode
from storage.private.account_data import export_page, export_searches


class _ExportPrivateData(BlockingMethod):
    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        account = private_account_of(context)
        cursors = Cursors(context, params, [account.id.hex()])
        opened = cursors.open()
        after = None if opened is None else (opened[0], opened[1])
        with context.app.private.read() as conn:
            page = export_page(conn, account, params["limit"], after)
            searches = export_searches(conn, account) if after is None else None
        return {
            "items": page.items,
            **({} if searches is None else {"savedSearches": searches}),
            **cursors.seal(None if page.after is None else [*page.after]),
        }


METHOD: Final = _ExportPrivateData()
