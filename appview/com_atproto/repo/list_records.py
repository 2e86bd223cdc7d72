"""com.atproto.repo.listRecords: a collection of one repo by record key."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.own_feeds import OwnRecord, list_own_records
from appview.paging import Cursors
from appview.pipeline import Params, SessionRead
from appview.refusals import refuse_repo
from appview.session import Session
from protocol.data.cbor import decode
from protocol.data.cid import cid_for, cid_to_text
from protocol.data.json_form import to_json
from storage.records.addresses import Address, find_collections
from storage.records.record_rows import PAGE_BYTES, fetch_pieces
from storage.repos.repo_listing import Key, Position, list_keys, position_after


def _list(session: Session, params: Params) -> dict[str, Any]:
    own = list_own_records(session, params["repo"], params["collection"])
    if own is not None:
        return _list_own(session, params, own)
    cursors = Cursors(session.context, params)
    opened = cursors.open()
    before = None if opened is None else Position(*opened)
    state = State(session)
    actor = session.find_actor(params["repo"])
    did = refuse_repo(state, actor, params["repo"])
    assert actor is not None
    nsid, limit = params["collection"], params["limit"]
    collection = find_collections(session.conn, {nsid}).get(nsid)
    if collection is None:
        return {"records": []}
    keys = list_keys(
        session.conn,
        actor,
        collection,
        limit=limit + 1,
        ascending=params.get("reverse", False),
        after=before,
    )
    values = _fetch(session, actor, collection, keys[:limit])
    read = keys[: len(values)]
    uris = [f"at://{did}/{nsid}/{key.text}" for key in read]
    records = [
        {
            "uri": uri,
            "cid": cid_to_text(cid_for(value)),
            "value": to_json(decode(value)),
        }
        for uri, value in zip(uris, values, strict=True)
        if not session.taken_down.has_record(uri)
    ]
    more = [*position_after(read, before)] if len(read) < len(keys) else None
    return {"records": records, **cursors.seal(more)}


def _fetch(
    session: Session, actor: int, collection: int, keys: list[Key]
) -> list[bytes]:
    """Return the bytes of the first keys: fewer than all once they exceed 2 MB."""
    addresses = [Address(actor, collection, key.rkey) for key in keys]
    values: list[bytes] = []
    for piece, found in fetch_pieces(session.conn, addresses):
        values += [found[Address(*address)] for address in piece]
        if sum(map(len, values)) > PAGE_BYTES:
            break
    return values


def _list_own(
    session: Session, params: Params, own: dict[str, OwnRecord]
) -> dict[str, Any]:
    cursors = Cursors(session.context, params)
    opened = cursors.open()
    begin = opened[0] if opened else 0
    end = begin + params["limit"]
    rkeys = sorted(own, reverse=not params.get("reverse", False))
    records = [
        {"uri": own[rkey].uri, "cid": own[rkey].cid, "value": to_json(own[rkey].value)}
        for rkey in rkeys[begin:end]
        if not session.taken_down.has_record(own[rkey].uri)
    ]
    return {"records": records, **cursors.seal([end] if end < len(rkeys) else None)}


METHOD: Final = SessionRead(_list)
