"""A directory that lies in one field of a line or a log, and else is honest.

The mirror always holds a prefix of each true log, less at most undone operations, and
in the end the whole of each. It may be restarted at any page. Times have a test of
their own.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from plc import operation_log
from plc.mirror import BadExportError, Mirror, read_page
from plc.operation import (
    HOUR_MS,
    LogEntry,
    check_next_operation,
    format_time,
    verify_audit_log,
)
from plc.operation_format import (
    AnyOperation,
    LegacyCreate,
    Operation,
    Tombstone,
    did_for_genesis,
    operation_cid,
    operation_json,
    parse_operation,
    sign_operation,
)
from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.errors import ProtocolError
from protocol.identity.keys import K256_ORDER, P256_ORDER, PrivateKey
from protocol.syntax import Did
from storage.postgres.pool import Conn, Pool, open_pool

KEYS = [
    PrivateKey.from_bytes("p256" if n % 2 else "k256", bytes([n + 11]) * 32)
    for n in range(4)
]
NAMES = [key.public.did_key for key in KEYS]
THIEF = PrivateKey.from_bytes("p256", b"\x77" * 32)
START = 1_780_000_000_000
NOW = START + 10_000 * HOUR_MS
DIRECTORY = "https://plc.example.com"
WAITS = [1, 1, 5, HOUR_MS, 71 * HOUR_MS, 72 * HOUR_MS, 72 * HOUR_MS + 1]
LIES_A_WORLD = 6

Line = dict[str, Any]


@pytest.fixture
def pool(make_database: Callable[[str], str]) -> Iterator[Pool]:
    with open_pool(make_database("index"), max=2) as pool:
        yield pool


class World:
    """True logs of a few DIDs, and the export of them all."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.logs: dict[Did, list[LogEntry]] = {}
        self.accepted: list[LogEntry] = []
        clock = START
        for number in range(3):
            self._accept_genesis(self._genesis(number), clock)
        for number in range(18):
            clock += chance.choice(WAITS)
            # Several DIDs may have an operation in one millisecond.
            for did in chance.sample(list(self.logs), chance.randint(1, 3)):
                self._try_one(did, clock, number)
        seq = 0
        self.lines: list[Line] = []
        for entry in self.accepted:
            seq += chance.choice((1, 1, 7))
            line = entry.to_json() | {"seq": seq, "type": "sequenced_op"}
            del line["nullified"]
            self.lines.append(line)

    def _genesis(self, number: int) -> Operation | LegacyCreate:
        chance = self.chance
        signing, recovery = chance.sample(range(4), 2)
        if number % 3 == 0:
            legacy = LegacyCreate(
                NAMES[signing], NAMES[recovery], f"n{chance.random()}.test", "pds.test"
            )
            return sign_operation(legacy, KEYS[chance.choice((signing, recovery))])
        ranks = chance.sample(range(4), chance.randint(1, 4))
        state = self._state([NAMES[rank] for rank in ranks], None, number)
        return sign_operation(state, KEYS[chance.choice(ranks)])

    def _state(self, keys: list[str], prev: str | None, number: int) -> Operation:
        return Operation(
            rotation_keys=tuple(keys),
            verification_methods={"atproto": NAMES[number % 4]},
            also_known_as=(f"at://n{number}.{self.chance.random()}.test",),
            services={},
            prev=prev,
        )

    def _accept_genesis(self, operation: Operation | LegacyCreate, at: int) -> None:
        did = did_for_genesis(operation)
        entry = LogEntry(did, operation, operation_cid(operation), False, at)
        self.logs[did] = [entry]
        self.accepted.append(entry)

    def _try_one(self, did: Did, at: int, number: int) -> None:
        chance, log = self.chance, self.logs[did]
        # Mostly at the end, often a fork, sometimes after an undone operation.
        prev = log[-1 - min(int(chance.expovariate(1.0)), len(log) - 1)].cid
        ranks = chance.sample(range(4), chance.randint(1, 4))
        proposed: Operation | Tombstone = self._state(
            [NAMES[rank] for rank in ranks], prev, number
        )
        if chance.random() < 0.1:
            proposed = Tombstone(prev)
        for key in chance.sample(KEYS, 4):
            signed = sign_operation(proposed, key)
            try:
                verdict = check_next_operation(did, log, signed, at)
            except ProtocolError:
                continue
            undone = set(verdict.nullified)
            log[:] = [replace(e, nullified=e.nullified or e.cid in undone) for e in log]
            entry = LogEntry(did, signed, verdict.cid, False, at)
            log.append(entry)
            self.accepted.append(entry)
            return

    def audit(self, did: Did) -> list[Line]:
        return [entry.to_json() for entry in self.logs[did]]


# Lies: each changes one thing of a line (or of an entry of an audit log).


def _other(line: Line, world: World, name: str) -> Any:
    found = [x[name] for x in world.lines if x[name] != line[name]]
    return world.chance.choice(found)


def _lie_did(line: Line, world: World) -> None:
    line["did"] = _other(line, world, "did")


def _lie_cid(line: Line, world: World) -> None:
    line["cid"] = _other(line, world, "cid")


def _lie_operation(line: Line, world: World) -> None:
    line["operation"] = copy.deepcopy(_other(line, world, "operation"))


def _lie_field(line: Line, world: World) -> None:
    operation = line["operation"]
    name = world.chance.choice(sorted(operation))
    value = operation[name]
    if isinstance(value, str):
        changes: list[Any] = [value + "x", value[:-1], "", None, 7]
    elif isinstance(value, list):
        changes = [[*value, NAMES[0]], value[1:], [*value[::-1], "a"], None, {}]
    elif isinstance(value, dict):
        changes = [{**value, "x": "y"}, {"x": value}, None, []]
    else:
        changes = [world.lines[0]["cid"], "", 0]
    operation[name] = world.chance.choice(changes)


def _lie_more_fields(line: Line, world: World) -> None:
    line["operation"]["more"] = "fields"


def _lie_fewer_fields(line: Line, world: World) -> None:
    del line["operation"][world.chance.choice(sorted(line["operation"]))]


def _sign_anew(line: Line, change: Callable[[AnyOperation], AnyOperation]) -> None:
    operation = change(parse_operation(line["operation"]))
    line["operation"] = operation_json(operation)
    line["cid"] = operation_cid(operation)


def _lie_key(line: Line, world: World) -> None:
    _sign_anew(line, lambda operation: sign_operation(operation, THIEF))


def _lie_high_s(line: Line, world: World) -> None:
    def change(operation: AnyOperation) -> AnyOperation:
        raw = decode_base64url(operation.sig)
        order = world.chance.choice((K256_ORDER, P256_ORDER))
        s = (order - int.from_bytes(raw[32:], "big")) % order
        return replace(
            operation, sig=encode_base64url(raw[:32] + s.to_bytes(32, "big"))
        )

    _sign_anew(line, change)


def _lie_padding(line: Line, world: World) -> None:
    end = world.chance.choice(("==", "\n", "A", " "))
    _sign_anew(line, lambda one: replace(one, sig=one.sig + end))


def _lie_prev(line: Line, world: World) -> None:
    line["operation"]["prev"] = _other(line, world, "cid")


LIES = [
    *(_lie_did, _lie_cid, _lie_operation, _lie_field, _lie_more_fields),
    *(_lie_fewer_fields, _lie_key, _lie_high_s, _lie_padding, _lie_prev),
]


def lying_audit(world: World, did: Did) -> list[Line]:
    """Return a log with a lie, or one that ends too early."""
    chance, entries = world.chance, world.audit(did)
    if chance.random() < 0.3:
        flip = chance.choice(entries)
        flip["nullified"] = not flip["nullified"]
    elif chance.random() < 0.3:
        del entries[chance.randrange(len(entries)) :]
    else:
        chance.choice(LIES)(chance.choice(entries), world)
    return entries


def _body(lines: list[Line]) -> bytes:
    return b"\n".join(json.dumps(line).encode() for line in lines)


class Reader:
    """Follows an export as the follower does, restarted at each page."""

    def __init__(self, conn: Conn, world: World) -> None:
        self.conn = conn
        self.world = world
        for table in ("plc_log", "plc_doubt", "plc_feed", "plc_host"):
            conn.execute(f"DELETE FROM {table}")

    def read(self, lines: list[Line], pages: int = 1_000) -> None:
        for _ in range(pages):
            seq = operation_log.load_feed(self.conn, DIRECTORY).seq or 0
            told = zip(lines, self.world.lines, strict=False)
            page = [line for line, true in told if true["seq"] > seq]
            page = page[: self.world.chance.randint(1, 6)]
            if not page:
                return
            Mirror(DIRECTORY).ingest(self.conn, read_page(_body(page)), NOW)
            self.check()

    def retry_unproven(self, answer: Callable[[Did], Any]) -> None:
        self.conn.execute("UPDATE plc_doubt SET next_try = now()")
        before = self.held()
        for did in operation_log.claim_unproven(self.conn, 100):
            try:
                Mirror(DIRECTORY).replace_log(self.conn, did, answer(did), NOW)
            except ProtocolError:
                continue
        self.check()
        after = self.held()
        assert all(
            {e.cid for e in before[d]} <= {e.cid for e in after[d]} for d in before
        )

    def held(self) -> dict[Did, list[LogEntry]]:
        return operation_log.load_logs(self.conn, list(self.world.logs))

    def check(self) -> None:
        for did, log in self.held().items():
            verify_audit_log(did, [entry.to_json() for entry in log])
            held = {e.cid for e in log}
            undone = {e.cid for e in self.world.logs[did] if e.nullified}
            assert undone.issuperset(e.cid for e in log if e.nullified)
            true = [e for e in self.world.logs[did] if e.cid in held or not e.nullified]
            assert [(e.cid, e.created_ms) for e in log] == [
                (e.cid, e.created_ms) for e in true[: len(log)]
            ]


def test_false_lines_are_detected_and_lose_nothing(pool: Pool, long: bool) -> None:
    with pool.connection() as conn:
        for seed in range(12 if long else 2):
            chance = random.Random(seed)
            world = World(chance)
            for _ in range(LIES_A_WORLD):
                reader = Reader(conn, world)
                lines = copy.deepcopy(world.lines)
                lied = chance.randrange(len(lines))
                chance.choice(LIES)(lines[lied], world)
                # Honest up to a page or two before, then lying, then honest again.
                reader.read(world.lines[:lied], chance.randint(0, 30))
                reader.read(lines[: lied + chance.randint(1, 5)])
                reader.retry_unproven(partial(lying_audit, world))
                reader.read(world.lines)
                for _ in range(10):
                    reader.retry_unproven(world.audit)
                held = reader.held()
                victim = world.accepted[lied]
                for did, true in world.logs.items():
                    if held.get(did) == true:
                        continue
                    # Sent under another DID, and no later operation showed it.
                    assert did == victim.did
                    assert lines[lied]["did"] != did
                    assert held.get(did, []) == [e for e in true if e.cid != victim.cid]
                count = conn.execute("SELECT count(*) FROM plc_doubt").fetchone()
                assert count == (0,)


def test_false_times_and_numbers_forge_nothing(pool: Pool, long: bool) -> None:
    with pool.connection() as conn:
        for seed in range(12 if long else 2):
            chance = random.Random(1_000 + seed)
            world = World(chance)
            for _ in range(LIES_A_WORLD):
                reader = Reader(conn, world)
                reader.check = lambda: None  # type: ignore[method-assign]
                lines = copy.deepcopy(world.lines)
                line = chance.choice(lines)
                if chance.random() < 0.5:
                    shift = chance.choice((-80, -1, 1, 80)) * HOUR_MS
                    at = next(e for e in world.accepted if e.cid == line["cid"])
                    line["createdAt"] = format_time(at.created_ms + shift)
                else:
                    line["seq"] = chance.choice((0, -1, None, "1", 1, 5, 2**53))
                try:
                    reader.read(lines)
                except BadExportError:
                    reader.read(world.lines)
                reader.retry_unproven(world.audit)
                for did, log in reader.held().items():
                    verify_audit_log(did, [entry.to_json() for entry in log])
                    cids = [entry.cid for entry in log]
                    true = [
                        entry.cid
                        for entry in world.logs[did]
                        if entry.cid in cids or not entry.nullified
                    ]
                    assert cids == true[: len(cids)]
