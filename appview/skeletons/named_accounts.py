"""Accounts that a client names, by DID or handle."""

from __future__ import annotations

from typing import Final

from appview.pipeline import Params
from appview.session import Session
from network.xrpc.server import XrpcError
from protocol.syntax import is_did
from storage.records.addresses import find_actors, find_handles

MAX_ACTORS: Final = 25


def find_accounts(session: Session, params: Params) -> list[int]:
    """Return the known accounts of `actor` or `actors`, as often as they are named."""
    names: list[str] = params.get("actors") or [params["actor"]]
    if len(names) > MAX_ACTORS:
        raise XrpcError("InvalidRequest", f"at most {MAX_ACTORS} actors", 400)
    by_handle = find_handles(session.conn, [n for n in names if not is_did(n)])
    dids = [n if is_did(n) else by_handle.get(n.lower(), "") for n in names]
    ids = find_actors(session.conn, dids)
    return [ids[did] for did in dids if did in ids]


def require_account(session: Session, actor: str) -> int:
    """Return the id of an account. Raises XrpcError for an unknown one."""
    found = session.find_actor(actor)
    if found is None:
        raise XrpcError("InvalidRequest", f"Actor not found: {actor}", 400)
    return found


def find_account(session: Session, actor: str) -> int | None:
    """Return the id of an account; None for a DID that is not in the index.

    Raises XrpcError for a handle that nobody has.
    """
    found = session.find_actor(actor)
    if found is None and not is_did(actor):
        raise XrpcError("InvalidRequest", "Profile not found", 400)
    return found


def find_muted_did(session: Session, params: Params) -> str:
    """Return the DID of `actor`, also of an account that is not in the index."""
    name: str = params["actor"]
    if is_did(name):
        return name
    did = find_handles(session.conn, [name]).get(name.lower())
    if did is None:
        raise XrpcError("InvalidRequest", "Actor not found", 400)
    return did
