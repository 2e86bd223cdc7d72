"""app.bsky.feed.getFeedGenerator."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.shapes.generators import named_generators
from appview.skeletons.generators import is_served
from appview.views.named import generator_view
from network.xrpc.server import XrpcError
from storage.records.addresses import Address


def _present(state: State, found: list[Address], _: Params) -> dict[str, Any]:
    if not found:
        raise XrpcError("InvalidRequest", "could not find feed", 400)
    view = generator_view(state, found[0])
    ours = view["did"] == state.session.app.service_did
    is_valid = not ours or is_served(state.session, view["uri"])
    return {"view": view, "isOnline": True, "isValid": is_valid}


METHOD: Final[Pipeline[list[Address]]] = named_generators(_present)
