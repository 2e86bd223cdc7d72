"""com.atproto.sync.listReposByCollection: accounts with a record of a collection."""

from __future__ import annotations

from typing import Any, Final

from appview.paging import Cursors
from appview.pipeline import Params, SessionRead
from appview.session import Session
from storage.records.addresses import find_collections
from storage.records.collection_repos import list_holders


def _list(session: Session, params: Params) -> dict[str, Any]:
    cursors = Cursors(session.context, params)
    after = cursors.open()
    nsid = params["collection"]
    collection = find_collections(session.conn, {nsid}).get(nsid)
    if collection is None:
        return {"repos": []}
    page = list_holders(
        session.conn,
        collection,
        limit=params["limit"],
        after=after[0] if after else 0,
    )
    repos = [{"did": holder.did} for holder in page.found]
    more = None if page.after is None else [page.after]
    return {"repos": repos, **cursors.seal(more)}


METHOD: Final = SessionRead(_list, auth="none")
