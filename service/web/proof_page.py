"""The proof of a record: its commit, signing key and tree nodes, verified here."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request

from appview.app_bsky.actor import get_profile
from appview.app_bsky.feed import get_posts
from appview.hydration.state import State
from appview.paging import Page
from appview.session import RequestContext
from appview.shapes.any_record import load_any, shown_any
from mirror.sync_methods import prove_record
from network.xrpc.server import XrpcError
from protocol.data.cbor import decode
from protocol.data.cid import cid_for, cid_to_text
from protocol.data.json_form import to_json
from protocol.errors import ProtocolError
from protocol.identity.did_document import parse_did_document
from protocol.identity.keys import PublicKey, parse_did_key
from protocol.mst import parse_node
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit
from protocol.repo.record_proof import verify_record_proof
from protocol.syntax import Did, is_did, is_nsid, is_record_key
from service.web.rendering import PageFrame
from storage.collections import FEED_POST
from storage.records.addresses import Address, find_addresses
from storage.repos.identities import load_document

GET_RECORD: Final = "com.atproto.sync.getRecord"
MAX_SHOWN: Final = 100_000
"""Characters of a record's JSON on the page; the CAR holds all of it."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node on the way from the root of the tree to a record."""

    cid: str
    size: int
    entries: int


class ProofPage:
    """The signature of a record, and the ways to verify it."""

    def __init__(self, frame: PageFrame) -> None:
        self._frame = frame

    def page(self, request: Request) -> dict[str, Any]:
        """Return the values of the template."""
        did, collection, rkey = _record_name(request)
        path = f"{collection}/{rkey}"
        context = self._frame.context(request, GET_RECORD)
        # Refuses accounts that are not shown to readers without an account.
        author = get_profile.METHOD.run(context, {"actor": did})
        uri = f"at://{did}/{path}"
        is_held = _check_shown(context, uri, collection)
        car = prove_record(context, did, collection, rkey)
        with context.session() as session:
            stored = load_document(session.conn, did)
        key = _signing_key(stored.document if stored else None, Did(did))
        blocks = read_car(car)
        commit = blocks.blocks[blocks.root]
        value = _find_value(blocks.blocks, path, commit)
        params = urlencode({"did": did, "collection": collection, "rkey": rkey})
        is_post = collection == FEED_POST and is_held
        return {
            "title": "Proof of a record",
            "uri": uri,
            "author": author,
            "post": f"/post/{did}/{rkey}" if is_post else None,
            "exists": value is not None,
            "cid": None if value is None else cid_to_text(cid_for(value)),
            "json": "" if value is None else _show_json(value),
            "commit": cid_to_text(blocks.root),
            "rev": parse_commit(commit).rev,
            "key": None if key is None else key.did_key,
            "nodes": _tree_nodes(blocks.blocks, {blocks.root}, value),
            "failure": _verify(car, Did(did), path, key),
            "car": f"/xrpc/{GET_RECORD}?{params}",
            "car_size": len(car),
        }


def _record_name(request: Request) -> tuple[str, str, str]:
    did, collection, rkey = (
        request.path_params[name] for name in ("did", "collection", "rkey")
    )
    if not (is_did(did) and is_nsid(collection) and is_record_key(rkey)):
        raise XrpcError("InvalidRequest", "the address names no record", 404)
    return did, collection, rkey


def _check_shown(context: RequestContext, uri: str, collection: str) -> bool:
    """Return True if the index holds a record. Raises XrpcError if it is hidden."""
    hidden = XrpcError("NotFound", f"this record is not shown here: {uri}", 404)
    with context.session() as session:
        address = find_addresses(session.conn, [uri]).get(uri)
        if address is None:
            return False
        page: Page[Address | None] = Page([address])
        state = State(session)
        load_any(state, page)
        if address not in state.records:
            return False
        if collection != FEED_POST and not shown_any(state, page):
            raise hidden
    if collection == FEED_POST:
        found = get_posts.METHOD.run(context, {"uris": [uri]})
        if not found["posts"]:
            raise hidden
    return True


def _signing_key(document: Any, did: Did) -> PublicKey | None:
    """Return the key in a cached DID document, None if there is none."""
    try:
        found = parse_did_document(document, did, dev=True).signing_key
        return None if found is None else parse_did_key(found)
    except ProtocolError:
        return None


def _verify(car: bytes, did: Did, path: str, key: PublicKey | None) -> str | None:
    """Return the reason why a proof does not hold, None if it does."""
    if key is None:
        return "the signing key of the account is not known here"
    try:
        verify_record_proof(car, did, path, key, time.time_ns() // 1_000)
    except ProtocolError as error:
        return f"{type(error).__name__}: {error}"
    return None


def _find_value(blocks: dict[bytes, bytes], path: str, commit: bytes) -> bytes | None:
    """Return the bytes of the record that the last node of the tree names."""
    cid = parse_commit(commit).data
    key = path.encode()
    while (node := blocks.get(cid)) is not None:
        keys, values, links = parse_node(node)
        place = sum(1 for each in keys if each < key)
        if place < len(keys) and keys[place] == key:
            return blocks.get(values[place])
        below = links[place]
        if below is None:
            return None
        cid = below
    return None


def _tree_nodes(
    blocks: dict[bytes, bytes], others: set[bytes], value: bytes | None
) -> list[TreeNode]:
    if value is not None:
        others = others | {cid_for(value)}
    return [
        TreeNode(cid_to_text(cid), len(raw), len(parse_node(raw)[0]))
        for cid, raw in blocks.items()
        if cid not in others
    ]


def _show_json(value: bytes) -> str:
    text = json.dumps(to_json(decode(value)), ensure_ascii=False, indent=2)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "\n…"
