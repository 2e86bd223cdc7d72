"""Parts of several kinds of views."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from appview.hydration.records import Record
from appview.hydration.self_labels import self_label_values
from appview.hydration.state import State
from protocol.data.cbor import Value
from protocol.data.cid import cid_to_text
from protocol.syntax import datetime_from_us, datetime_us, is_datetime, tid_from_int
from storage.records.addresses import Address


def datetime_text(moment: datetime) -> str:
    """Return a time in UTC with milliseconds, as the network writes it."""
    # strftime writes years before 1000 with too few digits.
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def created_text(value: dict[str, Value]) -> str:
    """Return a record's `createdAt` in UTC; 1970 for a record without one."""
    text = text_of(value, "createdAt")
    known = text is not None and is_datetime(text)
    return datetime_from_us(datetime_us(text) if text and known else 0)


def rkey_text(state: State, rkey: int) -> str:
    """Return the text of a record key: of a TID, or of a loaded key."""
    return tid_from_int(rkey) if rkey > 0 else state.rkeys[rkey]


def record_uri(state: State, did: str, nsid: str, rkey: int | None) -> str | None:
    """Return the AT-URI of a record with a loaded key, None without a key."""
    return None if rkey is None else f"at://{did}/{nsid}/{rkey_text(state, rkey)}"


def text_of(value: dict[str, Value], key: str) -> str | None:
    """Return a text field of a record, or None if it is anything else."""
    found = value.get(key)
    return found if isinstance(found, str) else None


def label_views(state: State, subject: Address, uri: str) -> list[dict[str, Any]]:
    """Return the labels of accepted labelers on a record or an account."""
    return [
        present(
            src=label.src,
            uri=uri,
            cid=cid_to_text(label.cid) if label.cid else None,
            val=label.val,
            cts=datetime_text(label.cts),
            exp=datetime_text(label.exp) if label.exp else None,
        )
        for label in state.labels.get(subject, ())
    ]


def self_labels(did: str, uri: str, record: Record) -> list[dict[str, Any]]:
    """Return the labels that an author put on a record."""
    values = self_label_values(record.value)
    if not values:
        return []
    cts = created_text(record.value)
    return [
        {"src": did, "uri": uri, "cid": record.cid, "val": val, "cts": cts}
        for val in values
    ]


def present(**fields: Any) -> dict[str, Any]:
    """Return the object without fields that are None, as lexicons have no null."""
    return {key: value for key, value in fields.items() if value is not None}
