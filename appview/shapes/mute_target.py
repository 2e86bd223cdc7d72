"""The account that muteActor and unmuteActor name."""

from __future__ import annotations

from appview.pipeline import Params
from appview.session import Session
from network.xrpc.server import XrpcError
from protocol.syntax import is_did
from storage.private.mutes import MAX_DID_BYTES
from storage.records.addresses import find_handles


def find_target(session: Session, params: Params) -> str:
    """Return the DID of `actor`, which may be an account that is not in the index."""
    name: str = params["actor"]
    if is_did(name) and len(name) <= MAX_DID_BYTES:
        return name
    did = find_handles(session.conn, [name]).get(name.lower())
    if did is None:
        raise XrpcError("InvalidRequest", "Actor not found", 400)
    return did
