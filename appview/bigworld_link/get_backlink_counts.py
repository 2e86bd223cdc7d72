"""bigworld.link.getBacklinkCounts."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from appview.pipeline import Params, SessionRead
from appview.session import Session
from appview.shapes.backlinks import read_wanted
from storage.records.link_paths import MAX_COUNTED, LinkPath, Target, count_links_to

MAX_SECONDS: Final = 1.0
"""Seconds after which links of further sources are only known to exist."""


def _counts(session: Session, params: Params) -> dict[str, Any]:
    wanted = read_wanted(session, params)
    deadline = monotonic() + MAX_SECONDS
    counts = []
    for path in wanted.paths if wanted.target else ():
        assert wanted.target is not None
        session.context.check_client()
        most = MAX_COUNTED if monotonic() < deadline else 1
        found = _count(session, path, wanted.target, most)
        if found["links"]:
            counts.append(found)
    return {"subject": params["subject"], "counts": counts}


def _count(
    session: Session, path: LinkPath, target: Target, most: int
) -> dict[str, Any]:
    links, accounts, capped = count_links_to(session.conn, path.id, target, most=most)
    return {
        "source": path.source,
        "collection": path.nsid,
        "path": path.path.removeprefix("."),
        "links": links,
        "accounts": accounts,
        "atLeast": capped,
    }


METHOD: Final = SessionRead(_counts)
