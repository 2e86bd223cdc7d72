"""Writes to a Personal Data Server over HTTP, on a disk that keeps what it confirms.

The floor of single writes is an empty request to the same server. Later writes are
measured beside many more accounts.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
from starlette.types import ASGIApp

from bench.child import open_child
from bench.index import LostError
from bench.metric import Metric, Progress
from bench.request import connect, get
from network.server.listener import serving_in_thread
from pds.application import create_app
from pds.settings import PdsSettings
from plc.directory import create_app as create_directory
from plc.submission_limits import SubmissionLimits
from protocol.data.cid import cid_for
from service.runtime.databases import PDS, PLC, database_name
from service.runtime.embedded import EmbeddedPostgres
from storage import migrate
from storage.postgres.pool import open_pool

BENCH: Final = "pds"
POST: Final = "app.bsky.feed.post"
REPO: Final = "com.atproto.repo"

ACCOUNTS: Final = 8
_WRITES: Final = 300
"""Records of each account: its points of an hour bound them."""
_ONE_REPO: Final = (50, 30)
"""Writers on one repo, and the records of each."""
BATCHES: Final = 6
BATCH: Final = 200
_BLOBS: Final = 40
_BLOB_BYTES: Final = 200_000
_STORED: Final = 100_000
_EMPTY: Final = 400
_QUICK: Final = 25
"""Divisor of all sizes in a quick run."""
_PASSWORD: Final = "correct horse battery"  # noqa: S105  (of made-up accounts)


@dataclass(frozen=True, slots=True)
class Member:
    """An account with a session."""

    did: str
    token: str


def run(quick: bool, progress: Progress, *, stored: int = 0) -> list[Metric]:
    """Measure writes of a few clients; then again beside `stored` more accounts."""
    part = _QUICK if quick else 1
    writers, each = _ONE_REPO
    with open_server() as (url, database):
        # Accounts have points for so many writes an hour.
        members = [sign_up(url, number) for number in range(3 * ACCOUNTS + 1)]
        progress.count("accounts", len(members), len(members))
        first, batched, later = (
            members[n * ACCOUNTS : (n + 1) * ACCOUNTS] for n in range(3)
        )
        empty = measure_rate(url, [partial(_ask_nothing, n=_EMPTY // part)] * ACCOUNTS)
        count = max(4, _WRITES // part)
        single = measure_rate(url, [partial(create_records, m, count) for m in first])
        progress.count("steps", 1, 5)
        shared = measure_rate(
            url,
            [partial(create_records, members[-1], max(2, each // part))]
            * max(4, writers // part),
        )
        _check_history(url, members[-1])
        progress.count("steps", 2, 5)
        size = BATCH // part
        batches = measure_rate(
            url, [partial(apply_batches, m, BATCHES, size) for m in batched]
        )
        progress.count("steps", 3, 5)
        blobs = measure_rate(
            url, [partial(_upload, m, max(2, _BLOBS // part)) for m in later]
        )
        progress.count("steps", 4, 5)
        _store_accounts(database, (stored or _STORED) // part)
        crowded = measure_rate(url, [partial(create_records, m, count) for m in later])
        progress.count("steps", 5, 5)
    return [
        Metric(BENCH, "empty_per_s", empty, "requests/s"),
        Metric(BENCH, "create_record_per_s", single, "records/s", empty),
        Metric(BENCH, "create_record_one_repo_per_s", shared, "records/s", empty),
        Metric(BENCH, "apply_writes_per_s", batches * size, "records/s", single),
        Metric(BENCH, "upload_blob_per_s", blobs, "blobs/s", empty),
        Metric(BENCH, "create_record_crowded_per_s", crowded, "records/s", single),
    ]


Work = Callable[[http.client.HTTPConnection], int]
"""Send requests on a connection, one after the other; return their number."""


def measure_rate(url: str, works: Sequence[Work]) -> float:
    """Return the requests a second of clients that work at the same time."""

    def client(work: Work) -> int:
        with closing(connect(url)) as connection:
            return work(connection)

    started = time.perf_counter()
    with ThreadPoolExecutor(len(works)) as pool:
        done = sum(pool.map(client, works))
    return done / (time.perf_counter() - started)


def _ask_nothing(connection: http.client.HTTPConnection, n: int) -> int:
    for _ in range(n):
        get(connection, "/xrpc/_health")
    return n


def create_records(
    member: Member, n: int, connection: http.client.HTTPConnection
) -> int:
    for number in range(n):
        body = {"repo": member.did, "collection": POST, "record": _post(number)}
        post(connection, f"{REPO}.createRecord", body, member.token)
    return n


def apply_batches(
    member: Member, n: int, size: int, connection: http.client.HTTPConnection
) -> int:
    """Create `n` times `size` records at once; return `n`."""
    for _ in range(n):
        writes = [
            {
                "$type": f"{REPO}.applyWrites#create",
                "collection": POST,
                "value": _post(number),
            }
            for number in range(size)
        ]
        body = {"repo": member.did, "writes": writes}
        post(connection, f"{REPO}.applyWrites", body, member.token)
    return n


def _upload(member: Member, n: int, connection: http.client.HTTPConnection) -> int:
    for number in range(n):
        data = number.to_bytes(4, "big") * (_BLOB_BYTES // 4)
        post(connection, f"{REPO}.uploadBlob", data, member.token)
    return n


def _post(number: int) -> dict[str, Any]:
    text = f"post number {number}: the tide is low and the herons stand in the shallows"
    return {
        "$type": POST,
        "text": text,
        "langs": ["en"],
        "createdAt": "2026-12-01T12:00:00.000Z",
    }


def post(
    connection: http.client.HTTPConnection,
    nsid: str,
    body: dict[str, Any] | bytes,
    token: str = "",
) -> Any:
    """Return the reply of a procedure; raises LostError for a refusal."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "image/jpeg" if isinstance(body, bytes) else "application/json"
    headers = {"Content-Type": kind}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request("POST", f"/xrpc/{nsid}", raw, headers)
    response = connection.getresponse()
    reply = response.read()
    if response.status != http.client.OK:
        raise LostError(f"{nsid}: {response.status} {reply[:200]!r}")
    return json.loads(reply)


def sign_up(url: str, number: int) -> Member:
    """Open an account."""
    body = {"handle": f"bench{number}.a.test", "password": _PASSWORD}
    with closing(connect(url)) as connection:
        made = post(connection, "com.atproto.server.createAccount", body)
    return Member(made["did"], made["accessJwt"])


def _check_history(url: str, member: Member) -> None:
    """Raise LostError unless every record that was confirmed is listed."""
    with closing(connect(url)) as connection:
        target = f"/xrpc/{REPO}.describeRepo?repo={member.did}"
        if POST not in json.loads(get(connection, target))["collections"]:
            raise LostError("records of the shared repo are missing")


def _store_accounts(url: str, accounts: int) -> None:
    """Store accounts with ten records each, as if they had signed up."""
    cid = cid_for(b"\xa0")
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT max(id) FROM account").fetchone()
        assert row is not None
        values = {"first": row[0] + 1, "last": row[0] + accounts, "cid": cid}
        for statement in (_STORED_ACCOUNTS, _STORED_REPOS, _STORED_RECORDS):
            conn.execute(statement, values)
        conn.execute(_STORED_BLOCKS, values)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")


_STORED_ACCOUNTS: Final = """
    INSERT INTO account (id, did, handle, password, signing_key, rotation_key,
        signing_did_key)
    OVERRIDING SYSTEM VALUE
    SELECT n, 'did:plc:stored' || n, 'stored' || n || '.a.test', '', '', '', ''
    FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""
_STORED_REPOS: Final = """
    INSERT INTO repo (account, rev, data, commit)
    SELECT n, '3aaaaaaaaaa22', %(cid)s, %(cid)s
    FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""
_STORED_RECORDS: Final = """
    INSERT INTO record (account, path, cid)
    SELECT n, 'app.bsky.feed.post/3aaaaaaaaaa' || k, %(cid)s
    FROM generate_series(%(first)s::int, %(last)s::int) AS n,
        generate_series(10, 19) AS k
"""
_STORED_BLOCKS: Final = """
    INSERT INTO block (account, cid, rev, value)
    SELECT n, %(cid)s || int4send(k), '3aaaaaaaaaa22', decode(repeat('ab', 300), 'hex')
    FROM generate_series(%(first)s::int, %(last)s::int) AS n,
        generate_series(1, 12) AS k
"""


@contextmanager
def open_server() -> Iterator[tuple[str, str]]:
    """Serve a directory and a PDS; yield the URL of the PDS and of its database."""
    with (
        tempfile.TemporaryDirectory(
            prefix="bw-bench-", ignore_cleanup_errors=True
        ) as folder,
        EmbeddedPostgres(Path(folder) / "pg") as server,
    ):
        urls = {}
        for target in (PLC, PDS):
            name = database_name(target, "a" if target == PDS else "")
            server.ensure_database(name)
            urls[target] = server.url(name)
            migrate.upgrade(urls[target], target)
        with open_pool(urls[PLC]) as pool:
            limits = SubmissionLimits(10_000, 10_000)
            directory = create_directory(pool, limits=limits)
            with (
                serving_in_thread(directory) as plc_url,
                open_child(make_pds, plc_url, urls[PDS]) as url,
            ):
                yield url, urls[PDS]


def make_pds(plc_url: str, url: str) -> ASGIApp:
    """Return a PDS on the database at `url`."""
    pool = open_pool(url, max=8).__enter__()
    settings = PdsSettings(
        public_url="http://localhost:1",
        handle_domains=(".a.test",),
        plc_url=plc_url,
        secret=b"a secret of the benchmark".ljust(32),
        dev=True,
    )
    return create_app(settings, pool)
