"""app.bsky.graph.muteActor."""

from __future__ import annotations

from typing import Final

from appview.pipeline import Params
from appview.session import Session
from appview.shapes.procedure import PrivateChange
from appview.skeletons.named_accounts import find_muted_did
from network.xrpc.server import XrpcError
from storage.postgres.pool import Conn
from storage.private.mutes import Mute, save_mute
from storage.private.sealing import Account


def _find(session: Session, params: Params) -> tuple[str, Mute]:
    subject = find_muted_did(session, params)
    if subject == session.context.viewer_did:
        raise XrpcError("InvalidRequest", "Actor cannot mute themselves", 400)
    mute = Mute(params.get("onlyReposts", False), params.get("onlyQuoteposts", False))
    return subject, mute


def _write(conn: Conn, viewer: Account, found: tuple[str, Mute]) -> None:
    save_mute(conn, viewer, *found)


METHOD: Final[PrivateChange[tuple[str, Mute]]] = PrivateChange(_find, _write)
