"""com.atproto.sync.listHosts: the hosts that are crawled, the first seen first."""

from __future__ import annotations

from typing import Any, Final

from appview.paging import Cursors
from appview.pipeline import Params, SessionRead
from appview.session import Session
from storage.hosts.upstream_hosts import list_upstream


def _list(session: Session, params: Params) -> dict[str, Any]:
    cursors = Cursors(session.context, params)
    after = cursors.open()
    limit = params["limit"]
    hosts = list_upstream(session.conn, limit=limit + 1, after=after[0] if after else 0)
    more = [hosts[limit - 1].id] if len(hosts) > limit else None
    return {"hosts": [host.to_json() for host in hosts[:limit]], **cursors.seal(more)}


METHOD: Final = SessionRead(_list, auth="none")
