"""app.bsky.graph.getStarterPacks."""

from __future__ import annotations

from typing import Final

from appview.hydration.records import STARTER_PACK
from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, shown_records
from appview.session import Session
from appview.views.named import starter_pack_view_basic
from network.xrpc.server import XrpcError
from storage.records.addresses import Address, find_addresses

MAX_PACKS: Final = 25


def _find(session: Session, params: Params) -> list[Address]:
    uris: list[str] = params["uris"]
    if len(uris) > MAX_PACKS:
        raise XrpcError("InvalidRequest", f"at most {MAX_PACKS} starter packs", 400)
    found = find_addresses(session.conn, uris)
    addresses = [found[uri] for uri in uris if uri in found]
    return [address for address in addresses if address.collection == STARTER_PACK]


METHOD: Final[Pipeline[list[Address]]] = Pipeline(
    skeleton=_find,
    hydrate=State.load_named,
    rules=lambda state, found: shown_records(state, Place.NAMED, found),
    present=lambda state, found, _: {
        "starterPacks": [starter_pack_view_basic(state, pack) for pack in found]
    },
)
