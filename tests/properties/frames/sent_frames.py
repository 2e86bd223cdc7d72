"""Odd but valid frames, and the expected messages in our streams.

Commits are valid and signed. Everything that a signature does not restrict is odd:
long numbers, unknown fields, invalid records and paths, one record at many paths.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from frame_fuzz import CHANGES, NOW_US, Fuzzer
from libipld import encode_dag_cbor

from bench.fake_accounts import START_US
from crawler.hosts.host_name import parse_host
from crawler.live.gate_frame import prove_frames, read_frame
from crawler.live.gate_result import GateResult
from crawler.live.stream_state import StreamState
from indexer.event_frames import frame_of, messages_of
from protocol.data import cbor
from protocol.data.cid import cid_for, cid_to_text, raw_cid_for
from protocol.data.json_form import to_json
from protocol.errors import ProtocolError
from protocol.events.event import AccountEvent, CommitEvent, Event, IdentityEvent
from protocol.events.frames import decode_frame
from protocol.identity.keys import PrivateKey
from protocol.limits import MAX_SEQ
from protocol.mst import Tree
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, is_handle, tid_from_int

NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)
HOST: Final = parse_host("http://localhost:1", dev=True).name
_ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 2**63 - 1, 1.5, 2.5e300, "", "\x00\x7f", "\u2028",
    "x" * 20_000, b"", b"\x00\x01\x71\x12\x20" + bytes(32), [], {}, [{}] * 500,
    {"$link": 5}, {"$bytes": "="}, {"did": "did:plc:x", "seq": 1}, [[[[]]]], "𝄞",
)  # fmt: skip
_PATHS: Final = (
    "app.bsky.feed.post/{}", "app.bsky.feed.post/{}", "com.example.a.b/{}:~_-",
    "nodots/{}", "app.bsky.feed.post/{}/more", "app.bsky.feed.post/{} ", "a.b.c/..{}",
    "app.bsky.feed.post/é{}", "/{}", "{}", "app.bsky.feed.Post/{}",
    "a.b.c/{}" + "x" * 530,
)  # fmt: skip


def _records(rng: random.Random) -> bytes:
    """Return a block: usually a record."""
    value: Any = {"$type": "app.bsky.feed.post", "x": rng.choice(_ODD)}
    odd = rng.randrange(12)
    if odd == 0:
        return rng.choice((b"\x82\x01\x02", b"\xa1aa", b"\xa1aa\x18\x01", b"", b"\xf6"))
    if odd == 1:
        depth = rng.choice((29, 30, 31, 32, 60))
        return b"\xa1ax" + b"\x81" * depth + b"\x00"
    if odd == 2:
        value["pad"] = "\x00" * rng.choice((10,) * 9 + (99_000, 999_900, 10**6))
    if odd == 3:
        value["many"] = [{}] * rng.choice((10, 3_000))
    return bytes(encode_dag_cbor(value))


class Writer:
    """An account with valid commits of odd content."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.key = PrivateKey("p256", b"\x05" * 32)
        self.did = Did("did:plc:" + "w" * 24)
        self.tree = Tree({}.get)
        self.tree.root()
        self.rev = START_US
        self.paths: list[str] = []
        self.head: dict[str, Any] = {}

    def sync(self) -> bytes:
        """Return the #sync of the last commit."""
        return bytes(
            encode_dag_cbor({"op": 1, "t": "#sync"}) + encode_dag_cbor(self.head)
        )

    def commit(self) -> bytes:
        rng = self.rng
        before, ops = self.tree.root(), []
        blocks: dict[bytes, bytes] = {}
        paths = {
            rng.choice(_PATHS).format(rng.randrange(10**6))
            for _ in range(rng.choice((1, 1, 2, 5, 20)))
        }
        gone = {p for p in self.paths if rng.random() < 0.1}
        again = {p for p in self.paths if rng.random() < 0.1} - gone
        block = _records(rng)
        for path in sorted(gone | again | paths):
            key = path.encode()
            if path in gone:
                prev = self.tree.delete(key)
                op = {"action": "delete", "path": path, "cid": None, "prev": prev}
                self.paths.remove(path)
            else:
                if rng.random() < 0.7:
                    block = _records(rng)
                cid = (raw_cid_for if rng.random() < 0.05 else cid_for)(block)
                prev = self.tree.put(key, cid)
                blocks[cid] = block
                op = {"action": "create", "path": path, "cid": cid}
                if prev is not None:
                    op |= {"action": "update", "prev": prev}
                if path not in self.paths:
                    self.paths.append(path)
            if rng.random() < 0.1:
                op["more"] = rng.choice(_ODD)
            ops.append(op)
        proof = self.tree.proof_blocks([op["path"].encode() for op in ops])
        self.rev += 1
        rev = tid_from_int(self.rev << 10)
        signed = sign_commit(self.did, self.tree.root(), rev, self.key)
        root = cid_for(signed)
        parts = [car_header(root), car_block(root, signed)]
        parts += [car_block(cid, raw) for cid, raw in (proof | blocks).items()]
        self.head = {
            "seq": 1, "did": self.did, "rev": rev, "blocks": b"".join(parts[:2]),
            "time": rng.choice(_ODD),
        }  # fmt: skip
        rng.shuffle(ops)
        body = {
            "seq": 1, "repo": self.did, "rev": rev, "commit": root, "ops": ops,
            "blocks": b"".join(parts), "prevData": before, "time": rng.choice(_ODD),
        }  # fmt: skip
        return bytes(encode_dag_cbor({"op": 1, "t": "#commit"}) + encode_dag_cbor(body))


def told_of(it: Fuzzer, raw: bytes) -> bytes:
    """Return an identity or account event of a known account."""
    rng = it.rng
    did = rng.choice(list(it.keys))
    t = rng.choice(("#identity", "#account"))
    body: dict[str, Any] = {"seq": 1, "did": did, "time": "2026-01-01T00:00:00Z"}
    if t == "#account":
        body["active"] = rng.random() < 0.5
    for name in ("handle", "status", "time", "active", "repo"):
        if rng.random() < 0.3:
            body[name] = rng.choice(_ODD)
    return bytes(encode_dag_cbor({"op": 1, "t": t}) + encode_dag_cbor(body))


def add_fields(it: Fuzzer, raw: bytes) -> bytes:
    """Add unknown fields to payload and header."""
    t, body = decode_frame(raw).t, dict(decode_frame(raw).body)
    header: dict[str, Any] = {"op": 1, "t": t}
    for fields in (header, body):
        for _ in range(it.rng.randrange(3)):
            name = it.rng.choice(("a", "sequence", "SEQ", "\x00", "zz", "é" * 20))
            fields.setdefault(name, it.rng.choice(_ODD))
    if it.rng.random() < 0.2:
        body["deep"] = 0
        for _ in range(it.rng.choice((30, 61, 62, 63))):
            body["deep"] = [body["deep"]]
    return bytes(encode_dag_cbor(header) + encode_dag_cbor(body))


def other_number(it: Fuzzer, raw: bytes) -> bytes:
    number = it.rng.choice((1, 23, 24, 2**32, MAX_SEQ))
    return it.rebuilt(raw, lambda body: body.update(seq=number))


def write_longer(it: Fuzzer, raw: bytes) -> bytes:
    """Write the same values with longer heads than needed."""
    out = bytearray()
    position = 0
    while position < len(raw):
        head, argument = raw[position], raw[position] & 0x1F
        major, position = head >> 5, position + 1
        if argument > 23:
            size = 1 << argument - 24
            argument = int.from_bytes(raw[position : position + size], "big")
            position += size
        wide = it.rng.choice((0, 0, 0, 0, 0, 1, 2, 3))
        if major == 7 or wide == 0 or argument >= 1 << 8 * (1 << wide - 1):
            out += raw[position - (1 if head & 0x1F < 24 else 1 + size) : position]
        else:
            out.append(major << 5 | 23 + wide)
            out += argument.to_bytes(1 << wide - 1, "big")
        if major in (2, 3):
            out += raw[position : position + argument]
            position += argument
    return bytes(out)


ODD_FORMS: Final[tuple[Callable[[Fuzzer, bytes], bytes], ...]] = (
    told_of, add_fields, add_fields, other_number, write_longer, write_longer,
)  # fmt: skip


def take(it: Fuzzer, writer: Writer, raw: bytes) -> Event | None:
    """Return the event that the gate makes of a frame of a known account."""
    stream = StreamState(1, HOST)
    message = read_frame(stream, raw, GateResult(), bad_seqs_allowed=9)
    if message is None:
        return None
    did, seq, body = message.did, message.seq, message.body
    if message.t == "#identity":
        handle = body.get("handle")
        known: Any = handle if type(handle) is str and is_handle(handle) else None
        return IdentityEvent(did, known, seq, 1, frame=message.to_send(NOW_US))
    if message.t == "#account":
        active, status = body.get("active"), body.get("status")
        if type(active) is not bool or not (status is None or type(status) is str):
            return None
        return AccountEvent(did, active, status, seq, 1, frame=message.to_send(NOW_US))
    key = writer.key.public if did == writer.did else it.keys.get(did)
    if key is None:
        return None
    prove_frames([(message, key)], NOW_US)
    event: Any = message.proof
    if isinstance(event, Exception):
        raise event
    if type(event) is CommitEvent and event.prev_data is None:
        return None
    object.__setattr__(event, "frame", message.to_send(NOW_US))
    return event  # type: ignore[no-any-return]


def events(seed: int, count: int) -> list[tuple[Event, bytes, int]]:
    """Return accepted frames as (event, logged frame, number of messages)."""
    it = Fuzzer(seed, frames=80)
    writer = Writer(it.rng)
    found = []
    while len(found) < count:
        dice = it.rng.random()
        raw = it.rng.choice(it.frames) if dice < 0.4 else writer.commit()
        if dice > 0.8:
            raw = writer.sync()
        try:
            for _ in range(it.rng.choice((0, 1, 1, 2))):
                odd = it.rng.random() < 0.8
                raw = it.rng.choice(ODD_FORMS if odd else CHANGES)(it, raw)
            event = take(it, writer, raw)
        except (ProtocolError, ValueError, RecursionError, TypeError, LookupError):
            # Refused, or the fuzzer cannot make this frame.
            continue
        if event is not None:
            frame = frame_of(event, NOW)
            found.append((event, frame, messages_of(event, frame)))
    return found


def expected_commits(event: Event, frame: bytes) -> list[dict[str, Any]]:
    """Return the commits that Jetstream must send for an event."""
    if not isinstance(event, CommitEvent) or frame is not event.frame:
        return []
    kept = {f"{op.collection}/{op.rkey}": op for op in event.ops}
    found = []
    for listed in decode_frame(frame).body["ops"]:
        op = kept.get(listed["path"])
        if op is None:
            # Dropped on arrival; its deletion may be sent all the same.
            continue
        fields: dict[str, Any] = {
            "rev": event.rev,
            "operation": op.action,
            "collection": op.collection,
            "rkey": op.rkey,
        }
        if op.value is not None and op.cid is not None:
            text = json.dumps(to_json(cbor.decode(op.value)))
            fields |= {"record": json.loads(text), "cid": cid_to_text(op.cid)}
        found.append(fields)
    return found
