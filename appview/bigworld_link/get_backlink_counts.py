"""bigworld.link.getBacklinkCounts."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params, SessionRead
from appview.session import Session
from appview.shapes.backlinks import read_wanted
from storage.records.link_paths import LinkPath, Target, count_links_to


def _counts(session: Session, params: Params) -> dict[str, Any]:
    wanted = read_wanted(session, params)
    counts = []
    for path in wanted.paths if wanted.target else ():
        assert wanted.target is not None
        session.context.check_client()
        found = _count(session, path, wanted.target)
        if found["links"]:
            counts.append(found)
    return {"subject": params["subject"], "counts": counts}


def _count(session: Session, path: LinkPath, target: Target) -> dict[str, Any]:
    links, accounts, capped = count_links_to(session.conn, path.id, target)
    return {
        "source": path.source,
        "collection": path.nsid,
        "path": path.path.removeprefix("."),
        "links": links,
        "accounts": accounts,
        "atLeast": capped,
    }


METHOD: Final = SessionRead(_counts)
