"""Events in the form of Jetstream: JSON, one message for each changed record.

    {"did", "time_us", "kind": "commit",   "commit": {"rev", "operation", "collection",
                                                      "rkey", "record", "cid"}}
    {"did", "time_us", "kind": "identity", "identity": {"did", "handle", "seq", "time"}}
    {"did", "time_us", "kind": "account",  "account": {"active", "did", "seq", "time"}}

Messages are made on first use, since most subscribers want few collections. Events are
kept as bytes and text: a decoded record may take sixty times its size.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any, Final

from mirror.outgoing_events import COMMIT, OutgoingEvent
from protocol.data import cbor
from protocol.data.cid import cid_to_text, is_data_cid
from protocol.data.json_form import to_json
from protocol.data.record import open_record
from protocol.errors import ProtocolError
from protocol.events.drops import DropReason
from protocol.events.frames import decode_frame
from protocol.limits import MAX_RECORD_BYTES
from protocol.repo.car import read_car
from protocol.syntax import parse_path

log = logging.getLogger(__name__)

IDENTITY: Final = "#identity"
ACCOUNT: Final = "#account"
_DELETE: Final = "delete"
_END: Final = b"}}"
_MAX_GROWTH: Final = 3


class Record:
    """A record of a commit, shared by its messages."""

    def __init__(self, value: bytes) -> None:
        # The block, later the text, in one attribute: threads may replace it at once.
        self._held: tuple[bytes, bool] = value, False

    def __len__(self) -> int:
        return len(self._held[0])

    @property
    def text(self) -> bytes:
        """Return the JSON; empty for a record that was dropped on arrival.

        It is kept unless it is much larger than the block, and as bytes: one odd letter
        makes a string four times larger.
        """
        held, made = self._held
        if made:
            return held
        text = _record_text(held).encode()
        if len(text) <= _MAX_GROWTH * len(held):
            self._held = text, True
        return text


class Message:
    """A message at `time_us` (Unix microseconds), unique in its stream.

    `collection` is None for other kinds than commits. Its length is that of its parts.
    """

    __slots__ = ("_cid", "_record", "_text", "collection", "time_us")

    def __init__(
        self,
        collection: str | None,
        fields: dict[str, Any],
        record: Record | None = None,
        cid: str = "",
    ) -> None:
        self.collection = collection
        self.time_us: int = fields["time_us"]
        self._text = _dump(fields)
        self._record = record
        self._cid = cid

    def __len__(self) -> int:
        return 0 if self._record is None else len(self._record)

    @property
    def data(self) -> bytes:
        """Return the JSON text; empty for a record that was dropped on arrival."""
        text = self._text.encode()
        if self._record is None:
            return text
        record = self._record.text
        if not record:
            return b""
        cid = self._cid.encode()
        return b'%b,"record":%b,"cid":"%b"}}' % (text.removesuffix(_END), record, cid)


class EventMessages:
    """The messages of one event of the log, as long as its frame.

    A commit may have many, a `#sync` none.
    """

    def __init__(self, event: OutgoingEvent) -> None:
        self.did = event.did
        self._time_us = event.logged.time_us
        self._held: OutgoingEvent | Sequence[Message] = event
        self._size = len(event.logged.frame)

    def __len__(self) -> int:
        return self._size

    @property
    def messages(self) -> Sequence[Message]:
        """Return the messages in the order of the commit.

        They are made once; then the frame is freed.
        """
        held = self._held
        if isinstance(held, OutgoingEvent):
            held = self._held = self._make(held)
        return held

    def _make(self, event: OutgoingEvent) -> Sequence[Message]:
        try:
            return self._read(event)
        except Exception:
            # A logged event was verified: this is a bug, and no reason to end the
            # connections of all subscribers.
            log.exception("unreadable_event", extra={"seq": event.logged.seq})
            return ()

    def _read(self, event: OutgoingEvent) -> Sequence[Message]:
        body = decode_frame(event.logged.frame).body
        if event.t == COMMIT:
            return self._read_commit(body)
        if event.t == IDENTITY:
            return [self._message("identity", body, event, {"handle": str})]
        if event.t == ACCOUNT:
            names = {"active": bool, "status": str}
            return [self._message("account", body, event, names)]
        return ()

    def _message(
        self,
        kind: str,
        body: dict[str, Any],
        event: OutgoingEvent,
        names: dict[str, type],
    ) -> Message:
        # These events are not signed: fields may have any type.
        fields: dict[str, Any] = {
            name: body[name]
            for name, wanted in (*names.items(), ("time", str))
            if type(body.get(name)) is wanted
        }
        fields |= {"did": self.did, "seq": event.logged.seq}
        return Message(None, self._envelope(kind, fields))

    def _envelope(
        self, kind: str, fields: dict[str, Any], place: int = 0
    ) -> dict[str, Any]:
        time_us = self._time_us + place
        return {"did": self.did, "time_us": time_us, "kind": kind, kind: fields}

    def _read_commit(self, body: dict[str, Any]) -> Sequence[Message]:
        blocks = read_car(body["blocks"]).blocks
        records: dict[bytes, Record] = {}
        found = []
        for place, op in enumerate(body["ops"]):
            try:
                collection, rkey = parse_path(op["path"])
            except ProtocolError:
                continue
            fields: dict[str, Any] = {
                "rev": body["rev"],
                "operation": op["action"],
                "collection": collection,
                "rkey": rkey,
            }
            record, cid = None, b""
            if op["action"] != _DELETE:
                cid = op["cid"]
                if cid not in blocks or not is_data_cid(cid):
                    continue
                record = records.setdefault(cid, Record(blocks[cid]))
            envelope = self._envelope("commit", fields, place)
            found.append(
                Message(collection, envelope, record, cid_to_text(cid) if cid else "")
            )
        return found


def _record_text(value: bytes) -> str:
    if isinstance(open_record(value, MAX_RECORD_BYTES), DropReason):
        return ""
    return _dump(to_json(cbor.decode(value)))


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
