"""app.bsky.labeler.getServices."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.records import LABELER
from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, shown_records
from appview.session import Session
from appview.views.named import LABELER_VIEW, labeler_view, labeler_view_detailed
from network.xrpc.server import XrpcError
from storage.collections import RKEY_SELF
from storage.records.addresses import Address, find_actors

MAX_SERVICES: Final = 100
DETAILED: Final = f"{LABELER_VIEW}Detailed"


def _find(session: Session, params: Params) -> list[Address]:
    dids: list[str] = params["dids"]
    if len(dids) > MAX_SERVICES:
        raise XrpcError("InvalidRequest", f"at most {MAX_SERVICES} services", 400)
    ids = find_actors(session.conn, dids)
    return [Address(ids[did], LABELER, RKEY_SELF) for did in dids if did in ids]


def _present(state: State, found: list[Address], params: Params) -> dict[str, Any]:
    detailed = params["detailed"]
    kind = DETAILED if detailed else LABELER_VIEW
    view = labeler_view_detailed if detailed else labeler_view
    views = [view(state, address) for address in found]
    return {"views": [{"$type": kind, **made} for made in views if made is not None]}


METHOD: Final[Pipeline[list[Address]]] = Pipeline(
    skeleton=_find,
    hydrate=State.load_named,
    rules=lambda state, found: shown_records(state, Place.NAMED, found),
    present=_present,
)
