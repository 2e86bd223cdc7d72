"""Pieces that every view is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from appview.hydration.actors import Actor
from appview.hydration.labels import account_subject
from appview.hydration.self_labels import self_label_values
from appview.hydration.state import State, profile_address
from protocol.cbor import Value
from protocol.cid import Cid, cid_to_text
from protocol.syntax import is_datetime, tid_from_int
from storage.collections import ACTOR_PROFILE
from storage.documents import Address

GET_BLOB = "com.atproto.sync.getBlob"
_NO_TIME = "1970-01-01T00:00:00.000Z"
"""When a label was made by a record that does not tell."""


def datetime_text(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as the network writes it."""
    utc = moment.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"


def rkey_text(state: State, rkey: int) -> str:
    """Return the text of a record key: of a TID, or of one that was loaded."""
    return tid_from_int(rkey) if rkey > 0 else state.rkeys[rkey]


def text_of(value: dict[str, Value], key: str) -> str | None:
    """A text field of a record, or None if it is anything else."""
    found = value.get(key)
    return found if isinstance(found, str) else None


def blob_cid(blob: Value) -> str | None:
    """The CID of a blob field (also in its legacy form)."""
    if not isinstance(blob, dict):
        return None
    ref = blob.get("ref")
    if isinstance(ref, Cid):
        return str(ref)
    legacy = blob.get("cid")
    return legacy if isinstance(legacy, str) else None


def image_url(
    state: State, actor: Actor, cid: str | bytes | None, preset: str
) -> str | None:
    """Where a browser finds a blob: the operator's CDN, else the account's host."""
    if cid is None:
        return None
    text = cid_to_text(cid) if isinstance(cid, bytes) else cid
    pattern = state.session.app.cdn_url_pattern
    if pattern:
        return pattern.format(preset=preset, did=actor.did, cid=text)
    if actor.host_url is None:
        return None
    did = quote(actor.did, safe=":")
    return f"{actor.host_url}/xrpc/{GET_BLOB}?did={did}&cid={quote(text)}"


def label_views(
    state: State, subject: Address, uri: str, did: str, value: dict[str, Value] | None
) -> list[dict[str, Any]]:
    """Labels of accepted labelers, then those that the author put on the record."""
    views: list[dict[str, Any]] = [
        {
            "src": label.src,
            "uri": uri,
            "val": label.val,
            "cts": datetime_text(label.cts),
            **({"cid": cid_to_text(label.cid)} if label.cid else {}),
        }
        for label in state.labels.get(subject, ())
    ]
    if value is not None:
        created = text_of(value, "createdAt")
        cts = created if created and is_datetime(created) else _NO_TIME
        views += [
            {"src": did, "uri": uri, "val": val, "cts": cts}
            for val in self_label_values(value)
        ]
    return views


def account_labels(state: State, actor: Actor) -> list[dict[str, Any]]:
    """Labels on the account, on its profile, and in its profile."""
    address = profile_address(actor.id)
    profile = state.records.get(address)
    uri = f"at://{actor.did}/{ACTOR_PROFILE}/self"
    value = profile.value if profile else None
    return [
        *label_views(state, account_subject(actor.id), actor.did, actor.did, None),
        *label_views(state, address, uri, actor.did, value),
    ]


def present(**fields: Any) -> dict[str, Any]:
    """The object without the fields that are None: lexicons know no null there."""
    return {key: value for key, value in fields.items() if value is not None}
