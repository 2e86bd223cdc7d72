"""Changed frames, and the check that an accepted frame says what its signer said.

Some changes are blind, some know the format: fields exchanged between frames, blocks
changed and hashed again, commits signed with another key.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from libipld import encode_dag_cbor

from bench.fake_accounts import START_US, FakeAccounts
from crawler.live.verify import verify_commit, verify_sync
from protocol.data.cid import cid_for
from protocol.errors import ProtocolError
from protocol.events.event import CommitEvent, SyncEvent
from protocol.events.frames import decode_frame, peek_frame
from protocol.identity.keys import PrivateKey
from protocol.repo.car import Car, car_block, car_header, read_car
from protocol.repo.commit import parse_commit, sign_commit
from protocol.syntax import Did

NOW_US: Final = START_US * 2
_VALUES: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1, 2**53, 2**63 - 1, -(2**63), "", "x", "did:plc:" + "a" * 24,
    b"", b"\x00", b"\x01\x71\x12\x20" + bytes(32), [], [None], {}, {"a": 1}, "\x00",
    "3kaaaaaaaaa22", "#commit", [[[[[[]]]]]], "é" * 300, b"\xff" * 100_000, ["x"] * 300,
)  # fmt: skip
Change = Callable[["Fuzzer", bytes], bytes]


@dataclass
class Outcome:
    """Results of many frames; `slowest` is the CPU time of one frame in seconds."""

    tried: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0


class Fuzzer:
    """Makes frames of a few accounts, changes them, and checks the accepted ones."""

    def __init__(self, seed: int, frames: int = 250) -> None:
        self.rng = random.Random(seed)
        society = FakeAccounts(12, seed=seed, records=60, p256_share=0.4)
        self.keys = society.keys
        self.frames = list(society.frames(frames))
        self.bodies = [decode_frame(raw).body for raw in self.frames]
        self.thief = PrivateKey("k256", b"\x07" * 32)
        self.said: dict[tuple[str, str], CommitEvent] = {}
        self.heads: set[tuple[str, str, bytes]] = set()
        for raw in self.frames:
            event = self.take(raw)
            if isinstance(event, CommitEvent):
                self.said[event.did, event.rev] = event
            if isinstance(event, CommitEvent | SyncEvent):
                self.heads.add((event.did, event.rev, event.commit))

    def take(self, raw: bytes) -> CommitEvent | SyncEvent | None:
        """Verify a frame as the crawler does; return None if it proves nothing."""
        peek_frame(raw)
        _, t, body = decode_frame(raw)
        if t not in ("#commit", "#sync") or type(body) is not dict:
            return None
        did = body.get("repo" if t == "#commit" else "did")
        key = self.keys.get(Did(did)) if type(did) is str else None
        if key is not None:
            verify = verify_commit if t == "#commit" else verify_sync
            return verify(body, key, NOW_US)
        return None

    def find_lie(self, event: CommitEvent | SyncEvent | None) -> str | None:
        """Return a claim of an accepted frame that its signer did not make, or None."""
        if event is None:
            return None
        if isinstance(event, SyncEvent):
            known = (event.did, event.rev, event.commit) in self.heads
            return None if known else f"a head of {event.did} that nobody signed"
        said = self.said.get((event.did, event.rev))
        if said is None:
            # The head of a #sync as a commit that proves nothing.
            if (event.did, event.rev, event.commit) in self.heads and not event.ops:
                return None
            return f"a revision of {event.did} that nobody signed"
        if (event.data, event.commit) != (said.data, said.commit):
            return f"another tree of {event.did}"
        if event.prev_data is None:
            return "operations without a proof" if event.ops or event.drops else None
        if event.prev_data != said.prev_data:
            return f"another past of {event.did}"
        if _ops(event) != _ops(said):
            return f"other operations of {event.did}"
        return None

    def run(self, count: int, changes: Sequence[Change] | None = None) -> Outcome:
        """Change and verify `count` frames."""
        outcome = Outcome()
        wanted = changes or CHANGES
        for number in range(count):
            change = wanted[number % len(wanted)]
            name = change.__name__
            try:
                raw = change(self, self.rng.choice(self.frames))
                if self.rng.random() < 0.2:
                    raw = self.rng.choice(BLIND)(self, raw)
            except (ProtocolError, ValueError, RecursionError, TypeError, KeyError):
                # The fuzzer cannot make this frame.
                continue
            outcome.tried[name] += 1
            started = time.thread_time()
            try:
                lie = self.find_lie(self.take(raw))
            except ProtocolError as error:
                outcome.refused[type(error).__name__] += 1
            except Exception as error:
                outcome.faults.append(f"{name}: {error!r} of {raw[:2_000].hex()}")
            else:
                outcome.taken[name] += 1
                if lie is not None:
                    outcome.faults.append(f"{name}: {lie}: {raw[:2_000].hex()}")
            taken = time.thread_time() - started
            if taken > outcome.slowest:
                # Measure again: it may be the time of the garbage collector.
                outcome.slowest = max(
                    outcome.slowest, min(taken, self._time(raw), self._time(raw))
                )
        return outcome

    def _time(self, raw: bytes) -> float:
        """Return the CPU seconds of verifying or refusing a frame."""
        started = time.thread_time()
        with contextlib.suppress(Exception):
            self.take(raw)
        return time.thread_time() - started

    def rebuilt(self, raw: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
        """Return a frame with a changed body."""
        body = dict(decode_frame(raw).body)
        change(body)
        return header_of(raw) + bytes(encode_dag_cbor(body))

    def other_body(self, raw: bytes) -> dict[str, Any]:
        """Return the body of another frame, often of the same account."""
        did = peek_frame(raw)[0]
        same = [b for b in self.bodies if did in (b.get("repo"), b.get("did"))]
        return self.rng.choice(same if self.rng.random() < 0.6 else self.bodies)


def _ops(event: CommitEvent) -> Counter[tuple[Any, ...]]:
    found = [(o.action, o.collection, o.rkey, o.cid, o.value) for o in event.ops]
    dropped = [("drop", d.path, d.cid) for d in event.drops]
    return Counter([*found, *dropped])  # type: ignore[list-item]


def header_of(raw: bytes) -> bytes:
    """Return the header of a frame."""
    t = decode_frame(raw).t
    return bytes(encode_dag_cbor({"op": 1, "t": t}))


def flip_bits(it: Fuzzer, raw: bytes) -> bytes:
    out = bytearray(raw)
    for _ in range(it.rng.choice((1, 1, 1, 2, 8))):
        out[it.rng.randrange(len(out))] ^= 1 << it.rng.randrange(8)
    return bytes(out)


def set_bytes(it: Fuzzer, raw: bytes) -> bytes:
    out = bytearray(raw)
    for _ in range(it.rng.choice((1, 1, 4))):
        out[it.rng.randrange(len(out))] = it.rng.choice(
            (0, 1, 0x1B, 0x5F, 0x7F, 0x9F, 0xFF)
        )
    return bytes(out)


def cut_out(it: Fuzzer, raw: bytes) -> bytes:
    start = it.rng.randrange(len(raw))
    return raw[:start] + raw[start + it.rng.randrange(1, 60) :]


def cut_short(it: Fuzzer, raw: bytes) -> bytes:
    return raw[: it.rng.randrange(len(raw))]


def put_in(it: Fuzzer, raw: bytes) -> bytes:
    place = it.rng.randrange(len(raw) + 1)
    return raw[:place] + it.rng.randbytes(it.rng.randrange(1, 60)) + raw[place:]


def repeat_part(it: Fuzzer, raw: bytes) -> bytes:
    start = it.rng.randrange(len(raw))
    end = min(len(raw), start + it.rng.randrange(1, 400))
    return raw[:end] + raw[start:end] + raw[end:]


def splice_two(it: Fuzzer, raw: bytes) -> bytes:
    other = it.rng.choice(it.frames)
    place = it.rng.randrange(len(raw))
    return raw[:place] + other[min(place, len(other)) :]


def longer_lengths(it: Fuzzer, raw: bytes) -> bytes:
    """Insert a head that claims far more than there is."""
    place = it.rng.randrange(len(raw))
    head = it.rng.choice((0x5A, 0x5B, 0x7A, 0x7B, 0x9A, 0x9B, 0xBA, 0xBB))
    size = it.rng.choice((2**16, 2**31, 2**32 - 1)).to_bytes(4, "big")
    return raw[:place] + bytes([head]) + size + raw[place:]


def nest_deep(it: Fuzzer, raw: bytes) -> bytes:
    depth = it.rng.choice((10, 63, 64, 65, 5_000, 200_000))
    place = it.rng.choice((0, len(raw) // 2, len(raw)))
    return raw[:place] + b"\x81" * depth + b"\0" + raw[place:]


def drop_field(it: Fuzzer, raw: bytes) -> bytes:
    return it.rebuilt(raw, lambda body: body.pop(it.rng.choice(list(body))))


def set_field(it: Fuzzer, raw: bytes) -> bytes:
    def change(body: dict[str, Any]) -> None:
        body[it.rng.choice([*body, "more"])] = it.rng.choice(_VALUES)

    return it.rebuilt(raw, change)


def exchange_field(it: Fuzzer, raw: bytes) -> bytes:
    def change(body: dict[str, Any]) -> None:
        other = it.other_body(raw)
        name = it.rng.choice(list(other))
        body[name] = other[name]

    return it.rebuilt(raw, change)


def exchange_most(it: Fuzzer, raw: bytes) -> bytes:
    def change(body: dict[str, Any]) -> None:
        other = it.other_body(raw)
        for name in list(other):
            if it.rng.random() < 0.6:
                body[name] = other[name]

    return it.rebuilt(raw, change)


def other_kind(it: Fuzzer, raw: bytes) -> bytes:
    kinds = ("#commit", "#sync", "#identity", "#account", "#info", "#tombstone", "")
    header = {"op": it.rng.choice((1, 1, 1, -1, 0, 2)), "t": it.rng.choice(kinds)}
    body = dict(decode_frame(raw).body)
    body.setdefault("did", body.get("repo"))
    body.setdefault("repo", body.get("did"))
    return bytes(encode_dag_cbor(header) + encode_dag_cbor(body))


def change_operation(it: Fuzzer, raw: bytes) -> bytes:
    def change(body: dict[str, Any]) -> None:
        ops = [dict(op) for op in body["ops"]]
        other = it.rng.choice(it.other_body(raw).get("ops") or ops)
        if it.rng.random() < 0.3 or not ops:
            ops.append(dict(other))
        else:
            op = it.rng.choice(ops)
            name = it.rng.choice(("action", "path", "cid", "prev"))
            op[name] = other.get(name, it.rng.choice(_VALUES))
        body["ops"] = ops

    return it.rebuilt(raw, change)


def _with_blocks(
    it: Fuzzer, raw: bytes, change: Callable[[Car, dict[bytes, bytes]], bytes]
) -> bytes:
    """Change the blocks; `change` edits them and returns the root."""

    def edit(body: dict[str, Any]) -> None:
        car = read_car(body["blocks"])
        blocks = dict(car.blocks)
        root = change(car, blocks)
        body["blocks"] = car_header(root) + b"".join(
            car_block(cid, block) for cid, block in blocks.items()
        )
        if "commit" in body:
            body["commit"] = root

    return it.rebuilt(raw, edit)


def drop_block(it: Fuzzer, raw: bytes) -> bytes:
    def change(car: Car, blocks: dict[bytes, bytes]) -> bytes:
        del blocks[it.rng.choice(list(blocks))]
        return car.root

    return _with_blocks(it, raw, change)


def add_and_shuffle_blocks(it: Fuzzer, raw: bytes) -> bytes:
    """Harmless change: another order, and an unused block."""

    def change(car: Car, blocks: dict[bytes, bytes]) -> bytes:
        extra = it.rng.randbytes(20)
        items = [*blocks.items(), (cid_for(extra), extra)]
        it.rng.shuffle(items)
        blocks.clear()
        blocks.update(items)
        return car.root

    return _with_blocks(it, raw, change)


def change_block(it: Fuzzer, raw: bytes) -> bytes:
    """Replace a block by another under its own CID; a root stays the root."""

    def change(car: Car, blocks: dict[bytes, bytes]) -> bytes:
        cid = it.rng.choice(list(blocks))
        changed = it.rng.choice(BLIND)(it, blocks.pop(cid))
        blocks[cid_for(changed)] = changed
        return cid_for(changed) if cid == car.root else car.root

    return _with_blocks(it, raw, change)


def false_cid(it: Fuzzer, raw: bytes) -> bytes:
    """Replace a block by another under the old CID."""

    def change(car: Car, blocks: dict[bytes, bytes]) -> bytes:
        cid = it.rng.choice(list(blocks))
        blocks[cid] = it.rng.choice(BLIND)(it, blocks[cid])
        return car.root

    return _with_blocks(it, raw, change)


def signed_by_another(it: Fuzzer, raw: bytes) -> bytes:
    """Sign the same commit with another key."""

    def change(car: Car, blocks: dict[bytes, bytes]) -> bytes:
        commit = parse_commit(blocks.pop(car.root))
        signed = sign_commit(commit.did, commit.data, commit.rev, it.thief)
        blocks[cid_for(signed)] = signed
        return cid_for(signed)

    return _with_blocks(it, raw, change)


def changed_signature(it: Fuzzer, raw: bytes) -> bytes:
    def change(car: Car, blocks: dict[bytes, bytes]) -> bytes:
        signed = bytearray(blocks.pop(car.root))
        start = signed.index(b"csigX@") + 6
        signed[start + it.rng.randrange(64)] ^= 1 << it.rng.randrange(8)
        blocks[cid_for(bytes(signed))] = bytes(signed)
        return cid_for(bytes(signed))

    return _with_blocks(it, raw, change)


def commit_of_another(it: Fuzzer, raw: bytes) -> bytes:
    """Put another valid commit over these blocks."""

    def change(car: Car, blocks: dict[bytes, bytes]) -> bytes:
        other = read_car(it.other_body(raw)["blocks"])
        del blocks[car.root]
        blocks[other.root] = other.blocks[other.root]
        return other.root

    return _with_blocks(it, raw, change)


BLIND: Final[tuple[Change, ...]] = (
    flip_bits, set_bytes, cut_out, cut_short, put_in, repeat_part, splice_two,
    longer_lengths, nest_deep,
)  # fmt: skip
CHANGES: Final[tuple[Change, ...]] = (
    *BLIND, drop_field, set_field, exchange_field, exchange_most, other_kind,
    change_operation, drop_block, add_and_shuffle_blocks, change_block, false_cid,
    signed_by_another, changed_signature, commit_of_another,
)  # fmt: skip
