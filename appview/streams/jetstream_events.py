"""Events in the form of Jetstream: JSON, one message for each changed record.

    {"did", "time_us", "kind": "commit",   "commit": {"rev", "operation", "collection",
                                                      "rkey", "record", "cid"}}
    {"did", "time_us", "kind": "identity", "identity": {"did", "handle", "seq", "time"}}
    {"did", "time_us", "kind": "account",  "account": {"active", "did", "seq", "time"}}

Messages are made when first asked for: most subscribers want few collections.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from appview.streams.sent_events import COMMIT, SentEvent
from protocol import cbor
from protocol.car import read_car
from protocol.cid import cid_to_text, is_data_cid
from protocol.drops import DropReason
from protocol.errors import ProtocolError
from protocol.json_form import to_json
from protocol.limits import MAX_RECORD_BYTES
from protocol.record import open_record
from protocol.syntax import parse_path

log = logging.getLogger(__name__)

IDENTITY: Final = "#identity"
ACCOUNT: Final = "#account"
_DELETE: Final = "delete"


class Message:
    """One message. `collection` is None for what is no commit."""

    def __init__(self, collection: str | None, fields: dict[str, Any]) -> None:
        self.collection = collection
        self._fields = fields

    @cached_property
    def data(self) -> bytes:
        """The JSON text."""
        text = json.dumps(self._fields, ensure_ascii=False, separators=(",", ":"))
        return text.encode()


class Moment:
    """What one event of the log comes to, at `time_us` (Unix microseconds): a commit
    may change many records, and a state of a repo (`#sync`) has no message."""

    def __init__(self, event: SentEvent) -> None:
        self.did = event.did
        self.time_us = event.logged.time_us
        self._event: SentEvent | None = event
        self._size = len(event.logged.frame)

    def __len__(self) -> int:
        # Of the frame; the messages made of it are about as large.
        return self._size

    @cached_property
    def messages(self) -> Sequence[Message]:
        """In the order of the commit. Made once, then the frame is let go."""
        event, self._event = self._event, None
        assert event is not None
        t, body = event.message.t, event.message.body
        if t == COMMIT:
            return self._read_commit(body)
        if t == IDENTITY:
            return [self._message("identity", body, event, ("handle",))]
        if t == ACCOUNT:
            return [self._message("account", body, event, ("active", "status"))]
        return ()

    def _message(
        self, kind: str, body: dict[str, Any], event: SentEvent, names: Sequence[str]
    ) -> Message:
        # Nothing of these is signed, and what a host writes may be of any type.
        fields: dict[str, Any] = {
            name: body[name]
            for name in (*names, "time")
            if isinstance(body.get(name), str | bool)
        }
        fields |= {"did": self.did, "seq": event.logged.seq}
        return Message(None, self._envelope(kind, fields))

    def _envelope(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"did": self.did, "time_us": self.time_us, "kind": kind, kind: fields}

    def _read_commit(self, body: dict[str, Any]) -> Sequence[Message]:
        """Of each record that was kept when it came in; what is in the tree and was
        dropped there is passed over here."""
        blocks = read_car(body["blocks"]).blocks
        found = []
        for op in body["ops"]:
            try:
                collection, rkey = parse_path(op["path"])
                fields: dict[str, Any] = {
                    "rev": body["rev"],
                    "operation": op["action"],
                    "collection": collection,
                    "rkey": rkey,
                }
                if op["action"] != _DELETE:
                    cid, value = op["cid"], blocks[op["cid"]]
                    kept = open_record(value, MAX_RECORD_BYTES)
                    if not is_data_cid(cid) or isinstance(kept, DropReason):
                        continue
                    fields["record"] = to_json(cbor.decode(value))
                    fields["cid"] = cid_to_text(cid)
            except (ProtocolError, KeyError):
                continue
            found.append(Message(collection, self._envelope("commit", fields)))
        return found
