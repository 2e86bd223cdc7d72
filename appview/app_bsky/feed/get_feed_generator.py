"""app.bsky.feed.getFeedGenerator."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.shapes.generators import named_generators
from appview.views.named import generator_view
from feeds.registry import FEEDS
from network.xrpc.server import XrpcError
from storage.records.addresses import Address


def _present(state: State, found: list[Address], _: Params) -> dict[str, Any]:
    if not found:
        raise XrpcError("InvalidRequest", "could not find feed", 400)
    view = generator_view(state, found[0])
    ours = view["did"] == state.session.app.service_did
    is_valid = not ours or view["uri"].rsplit("/", 1)[1] in FEEDS
    return {"view": view, "isOnline": True, "isValid": is_valid}


METHOD: Final[Pipeline[list[Address]]] = named_generators(_present)
