"""app.bsky.graph.getStarterPack."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.records import STARTER_PACK
from appview.hydration.starter_packs import load_packs
from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, shown_records
from appview.session import Session
from appview.skeletons.thread import find_post
from appview.views.starter_pack import starter_pack_view
from network.xrpc.server import XrpcError
from storage.records.addresses import Address


def _find(session: Session, params: Params) -> list[Address]:
    found = find_post(session, params["starterPack"])
    return [found] if found is not None and found.collection == STARTER_PACK else []


def _present(state: State, found: list[Address], _: Params) -> dict[str, Any]:
    if not found:
        raise XrpcError("InvalidRequest", "Starter pack not found", 400)
    return {"starterPack": starter_pack_view(state, found[0])}


METHOD: Final[Pipeline[list[Address]]] = Pipeline(
    skeleton=_find,
    hydrate=load_packs,
    rules=lambda state, found: shown_records(state, Place.NAMED, found),
    present=_present,
)
