"""app.bsky.graph.getRelationships."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.actors import Relation, load_actors, load_relations
from appview.hydration.blocks import Block, load_blocks
from appview.hydration.state import State
from appview.pipeline import Params, SessionRead
from appview.session import Session
from appview.views.common import present, record_uri
from network.xrpc.server import XrpcError
from protocol.syntax import is_did
from storage.collections import GRAPH_BLOCK, GRAPH_FOLLOW
from storage.records.addresses import find_actors, find_handles
from storage.states import STATUS_DELETED

MAX_OTHERS: Final = 30
_DEFS: Final = "app.bsky.graph.defs"


def _read(session: Session, params: Params) -> dict[str, Any]:
    others: list[str] = params.get("others", [])
    if len(others) > MAX_OTHERS:
        raise XrpcError("InvalidRequest", f"at most {MAX_OTHERS} others", 400)
    name: str = params["actor"]
    did = name if is_did(name) else find_handles(session.conn, [name]).get(name.lower())
    if did is None:
        return {"relationships": [_not_found(other) for other in others]}
    # Handles of others are not resolved, as on the reference AppView.
    dids = [other for other in others if is_did(other) and other != did]
    actor = session.find_actor(did)
    state = State(session)
    found: dict[str, dict[str, Any]] = {}
    if actor is not None:
        found = _load(state, did, actor, _find_held(session, dids))
    return {
        "actor": did,
        "relationships": [
            {"$type": f"{_DEFS}#relationship", "did": other, **found.get(other, {})}
            if is_did(other)
            else _not_found(other)
            for other in others
        ],
    }


def _find_held(session: Session, dids: list[str]) -> dict[str, int]:
    """Return the ids of accounts that were not deleted."""
    ids = find_actors(session.conn, dids)
    actors = load_actors(session.conn, [*ids.values()])
    return {
        did: number
        for did, number in ids.items()
        if actors[number].is_indexed
        and actors[number].upstream_status != STATUS_DELETED
    }


def _load(
    state: State, did: str, actor: int, known: dict[str, int]
) -> dict[str, dict[str, Any]]:
    """Return the relations between an account and others, by DID."""
    conn = state.session.conn
    relations = load_relations(conn, actor, [*known.values()])
    pairs = [(actor, other) for other in known.values()]
    blocks = load_blocks(conn, [*pairs, *((b, a) for a, b in pairs)])
    lists = [block.list for block in blocks.values() if block.list is not None]
    state.name(lists)
    state.name_rkeys(block.record for block in blocks.values())
    state.name_rkeys(
        k for r in relations.values() for k in (r.following, r.followed_by)
    )
    views = {}
    for other, number in known.items():
        relation = relations.get(number, Relation())
        to, by = blocks.get((actor, number)), blocks.get((number, actor))
        views[other] = present(
            following=record_uri(state, did, GRAPH_FOLLOW, relation.following),
            followedBy=record_uri(state, other, GRAPH_FOLLOW, relation.followed_by),
            blocking=_block_uri(state, did, to),
            blockedBy=_block_uri(state, other, by),
            blockingByList=_list_uri(state, to),
            blockedByList=_list_uri(state, by),
        )
    return views


def _block_uri(state: State, did: str, block: Block | None) -> str | None:
    return record_uri(state, did, GRAPH_BLOCK, block.record) if block else None


def _list_uri(state: State, block: Block | None) -> str | None:
    return state.uris.get(block.list) if block and block.list else None


def _not_found(actor: str) -> dict[str, Any]:
    return {"$type": f"{_DEFS}#notFoundActor", "actor": actor, "notFound": True}


METHOD: Final = SessionRead(_read)
