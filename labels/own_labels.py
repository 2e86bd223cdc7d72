"""Labels that this service issues: signed, numbered, and copied into the index.

They are private state, which survives a new index. Answers read the copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import anyio

from labels import label_rows
from labels.label_stream import LABELS, SUBSCRIBE_LABELS
from labels.signed_label import (
    LabelError,
    SignedLabel,
    label_fields,
    read_label,
    sign_label,
)
from network.streams.stream_server import StreamServer
from network.xrpc.server import XrpcServer
from protocol.data.cid import cid_to_text
from protocol.events.frames import encode_frame
from protocol.identity.keys import PrivateKey
from storage.postgres.pool import Pool
from storage.postgres.transaction import whole_transaction
from storage.private import own_labels
from storage.private.decisions import log_decision
from storage.private.private_store import PrivateStore
from storage.records.interning import Interner

ADD: Final = "label"
REMOVE: Final = "remove label"
_COPIED: Final = 500
_THREADS: Final = 2
_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class OwnLabels:
    """The labels of this service, in the private database."""

    private: PrivateStore
    did: str
    key: PrivateKey

    def issue(
        self,
        uri: str,
        val: str,
        *,
        operator: str,
        reason: str,
        cid: bytes = b"",
        exp: datetime | None = None,
        neg: bool = False,
    ) -> SignedLabel | None:
        """Issue a label, or with `neg` end it; return None if there is none to end.

        Raises LabelError for a wrong subject or value.
        """
        text = cid_to_text(cid) if cid else ""
        with self.private.write() as conn:
            # The counter's lock orders writers, so times rise with the numbers.
            number, now = log_decision(
                conn,
                operator=operator,
                action=f"{REMOVE if neg else ADD} {val[:200]}",
                subject=uri,
                reason=reason,
            )
            if neg and not own_labels.is_labelled(conn, uri, val, text):
                conn.rollback()
                return None
            label = sign_label(
                self.key,
                src=self.did,
                uri=uri,
                val=val,
                cts=now,
                cid=cid,
                neg=neg,
                exp=exp,
            )
            own_labels.put_label(
                conn,
                number,
                uri=uri,
                val=val,
                cid=text,
                neg=neg,
                exp=exp,
                raw=label.raw,
            )
        return label


def copy_own_labels(
    private: PrivateStore, pool: Pool, interner: Interner, did: str
) -> bool:
    """Copy the next issued labels into the index; return True if there may be more."""
    with private.read() as conn:
        last = own_labels.last_number(conn)
    if not last:
        return False
    src = interner.actors([did])[did]
    with pool.connection() as conn:
        position = label_rows.load_position(conn, src)
        if position > last:
            # The private database was restored from an older copy.
            label_rows.restart_stream(conn, src)
            position = 0
    if position == last:
        return False
    with private.read() as conn:
        found = own_labels.labels_after(conn, position, _COPIED)
    labels = []
    for _, raw in found:
        try:
            labels.append(read_label(label_fields(raw), did))
        except LabelError:
            # Issued under an earlier name of this service.
            continue
    rows = label_rows.rows_of(interner, labels)
    with pool.connection() as conn, whole_transaction(conn):
        label_rows.save_labels(conn, rows)
        label_rows.save_progress(conn, src, found[-1][0], rows)
    return len(found) == _COPIED


class OwnLabelEvents:
    """The issued labels as a source for `network.streams.event_feed`.

    Each kind of label is in it once, at its last change, so nothing is ever outdated.
    """

    def __init__(self, private: PrivateStore) -> None:
        self._private = private
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def tail(self) -> int:
        """Return the newest number; 0 for none."""
        return await anyio.to_thread.run_sync(self._tail, limiter=self._threads)

    async def oldest(self) -> int:
        """Return the first number, 0 if there is none."""
        return min(1, await self.tail())

    async def events_after(self, seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Return the next frames above `seq`."""
        return await anyio.to_thread.run_sync(
            self._read, seq, limit, limiter=self._threads
        )

    def _tail(self) -> int:
        with self._private.read() as conn:
            return own_labels.last_number(conn)

    def _read(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        with self._private.read() as conn:
            found = own_labels.labels_after(conn, seq, limit)
        return [
            (number, encode_frame(LABELS, {"seq": number, "labels": [label_fields(r)]}))
            for number, r in found
        ]


def add_label_subscription(server: XrpcServer, private: PrivateStore) -> None:
    """Serve com.atproto.label.subscribeLabels."""
    stream = StreamServer(OwnLabelEvents(private), poll=_POLL_S)
    server.route_subscription(SUBSCRIBE_LABELS, stream)
