"""A server killed at each named point of a write, an upload, an import, a sign-up.

After each death a new process serves the same database. What was stored has its events,
what was not has left nothing, and the same call succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from pds_process import PdsProcess
from pds_world import NOTE, PASSWORD, Answer, Client, World, free_port, note, sign_up

from pds.blobs import sweep_blobs
from pds.settings import PdsSettings
from protocol.data.cid import cid_for
from protocol.events.frames import decode_frame
from protocol.mst import TreeOp, build_nodes, invert
from protocol.repo.car import read_car
from protocol.repo.commit import parse_commit
from storage.postgres.crashpoint import Crashpoint
from storage.postgres.pool import Conn, Pool

POINTS = tuple(point for point in Crashpoint if point.startswith("pds."))
_NUMBERS = count()


@dataclass
class Doomed:
    """A server that is killed and started again on one database."""

    settings: PdsSettings
    pool: Pool
    port: int
    process: PdsProcess = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        assert isinstance(self.pool.conninfo, str)
        self.process = PdsProcess(self.settings, self.pool.conninfo, self.port)

    def die_at(self, point: Crashpoint, call: Callable[[], Answer]) -> None:
        """Make the call die at this point; return when its transaction has ended."""
        self.process.arm(point)
        with pytest.raises(httpx.TransportError):
            call()
        assert self.process.wait() == -9
        self.process.stop()
        with self.pool.connection() as conn:
            conn.autocommit = True
            while conn.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND state <> 'idle'"
            ).fetchone():
                time.sleep(0.01)
            conn.autocommit = False


@pytest.fixture(scope="module")
def doomed(world: World) -> Iterator[Doomed]:
    port = free_port()
    made = Doomed(world.settings("a", port), world.pool("a"), port)
    yield made
    made.process.stop()


@pytest.fixture(scope="module")
def writer(doomed: Doomed) -> Client:
    """Return an account with records and a blob."""
    client = sign_up(Client(doomed.settings.public_url), "writer.a.test")
    for number in range(30):
        assert client.create(note(f"{number}")).status == 200
    assert upload(client, b"first picture").status == 200
    return client


def upload(client: Client, data: bytes) -> Answer:
    return client.send(
        "POST",
        "/xrpc/com.atproto.repo.uploadBlob",
        body=data,
        headers={"Content-Type": "image/jpeg"},
    )


def make_call(point: Crashpoint, writer: Client) -> Callable[[], Answer]:
    """Return a call that passes the point, and may be made again."""
    number = next(_NUMBERS)
    name = point.removeprefix("pds.")
    if name.startswith("upload"):
        return lambda: upload(writer, b"picture %d" % number)
    if name.startswith("write"):
        picture = upload(writer, b"named picture %d" % number).json["blob"]
        record = note(f"killed {number}", picture=picture)
        rkey = f"killed-{number}"
        nsid = "com.atproto.repo.putRecord"
        body = {"repo": writer.did, "collection": NOTE, "rkey": rkey, "record": record}
        return lambda: writer.post(nsid, body)
    if name.startswith("import"):
        car = writer.get("com.atproto.sync.getRepo", did=writer.did).body
        assert writer.create(note(f"before the import {number}")).status == 200
        headers = {"Content-Type": "application/vnd.ipld.car"}
        path = "/xrpc/com.atproto.repo.importRepo"
        return lambda: writer.send("POST", path, body=car, headers=headers)
    if name == "account_erased":
        other = sign_up(Client(writer.url), f"leaver{number}.a.test")
        nsid = "com.atproto.admin.deleteAccount"
        return lambda: writer.operate(nsid, {"did": other.did})
    nsid = "com.atproto.server.createAccount"
    body = {"handle": f"comer{number}.a.test", "password": PASSWORD}
    return lambda: Client(writer.url).post(nsid, body)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_death_at_each_point_leaves_all_or_nothing(
    doomed: Doomed, writer: Client, point: Crashpoint
) -> None:
    call = make_call(point, writer)
    with doomed.pool.connection() as conn:
        before = stored(conn)
    doomed.die_at(point, call)
    with doomed.pool.connection() as conn:
        assert (stored(conn) != before) == point.endswith("_committed")
        check_events(conn)
        check_rows(conn)
    doomed.start()
    again = call()
    if point is Crashpoint.PDS_ACCOUNT_COMMITTED:
        assert again.error == "HandleNotAvailable", again.body
        log_in(writer.url, point)
    else:
        assert again.status == 200, again.body
    assert writer.create(note(f"after {point}")).status == 200
    with doomed.pool.connection() as conn:
        check_events(conn)
        check_rows(conn)


def log_in(url: str, point: Crashpoint) -> None:
    """Check that the newest account is a whole one."""
    handle = f"comer{next(_NUMBERS) - 1}.a.test"
    answer = Client(url).post(
        "com.atproto.server.createSession",
        {"identifier": handle, "password": PASSWORD},
    )
    assert answer.status == 200, (point, answer.body)
    session = answer.json
    comer = Client(url, session["accessJwt"], session["did"])
    assert comer.create(note("I am here")).status == 200


@pytest.mark.slow
def test_blobs_that_no_record_names_are_swept(doomed: Doomed, writer: Client) -> None:
    assert upload(writer, b"an orphan").status == 200
    with doomed.pool.connection() as conn:
        assert sweep_blobs(conn, datetime.now(UTC) + timedelta(days=1)) > 0
        used = set(conn.execute("SELECT account, cid FROM blob_use").fetchall())
        left = set(conn.execute("SELECT account, cid FROM blob").fetchall())
    assert left == used


def stored(conn: Conn) -> list[Any]:
    """Return what a call changes: accounts, heads, blobs, their uses, events."""
    return [
        conn.execute(query).fetchall()
        for query in (
            "SELECT id, status FROM account ORDER BY id",
            "SELECT account, commit FROM repo ORDER BY account",
            "SELECT account, path, cid FROM record ORDER BY account, path",
            "SELECT account, cid FROM block ORDER BY account, cid",
            "SELECT account, cid FROM blob ORDER BY account, cid",
            "SELECT account, path, cid FROM blob_use ORDER BY account, path, cid",
            "SELECT seq FROM event ORDER BY seq",
        )
    ]


def check_events(conn: Conn) -> None:
    """Check that each account's events lead to its head, each commit from the last."""
    rows = conn.execute("SELECT seq, account, frame FROM event ORDER BY seq").fetchall()
    tail = conn.execute("SELECT last_seq FROM sequencer").fetchone()
    assert tail is not None
    assert rows[-1][0] == tail[0]
    heads: dict[int, tuple[str, bytes, bytes]] = {}
    for _, account, raw in rows:
        frame = decode_frame(raw)
        if frame.t not in ("#commit", "#sync"):
            continue
        car = read_car(frame.body["blocks"])
        commit = car.roots[0]
        root = parse_commit(car.blocks[commit]).data
        if frame.t == "#commit" and account in heads:
            assert heads[account][0] == frame.body["since"] < frame.body["rev"]
            check_inversion(frame.body, car.blocks, root, heads[account][1])
        heads[account] = (frame.body["rev"], root, commit)
    repos = conn.execute("SELECT account, rev, data, commit FROM repo").fetchall()
    assert {row[0]: tuple(row[1:]) for row in repos} == heads


def check_inversion(
    body: dict[str, Any], blocks: dict[bytes, bytes], root: bytes, older: bytes
) -> None:
    ops = [TreeOp(op["path"].encode(), op["cid"], op.get("prev")) for op in body["ops"]]
    assert body["prevData"] == older
    assert invert(blocks, root, ops) == older


def check_rows(conn: Conn) -> None:
    """Check that each account has one whole repo, and each use of a blob its record."""
    accounts = conn.execute("SELECT id FROM account WHERE status <> 'deleted'")
    ids = {row[0] for row in accounts.fetchall()}
    heads = dict(conn.execute("SELECT account, commit FROM repo").fetchall())
    assert heads.keys() == ids
    for account, commit in heads.items():
        records = dict(
            conn.execute(
                "SELECT path, cid FROM record WHERE account = %s", [account]
            ).fetchall()
        )
        nodes = build_nodes(
            sorted((path.encode(), cid) for path, cid in records.items())
        )
        blocks = dict(
            conn.execute(
                "SELECT cid, value FROM block WHERE account = %s", [account]
            ).fetchall()
        )
        wanted = {node.cid for node in nodes} | set(records.values()) | {commit}
        assert set(blocks) == wanted
        assert all(cid_for(value) == cid for cid, value in blocks.items())
    assert not conn.execute(
        "SELECT FROM blob_use u WHERE NOT EXISTS (SELECT FROM record r WHERE"
        " r.account = u.account AND r.path = u.path) OR NOT EXISTS (SELECT FROM blob b"
        " WHERE b.account = u.account AND b.cid = u.cid)"
    ).fetchone()
