"""The audit against hosts, and its samples."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from corruptions import CORRUPTIONS
from indexer_steps import assert_indexed, import_repo, state_of
from indexer_world import POST, Author, post, repo_row
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from audit.auditor import Auditor, Finding, audit_step
from audit.row_audit import audit_whole
from audit.samples import (
    KEPT,
    Verdict,
    completeness,
    draw_repos,
    note_sample,
    wilson,
)
from crawler.identities.network_clients import NetworkClients
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.identity.resolver import IdentityResolver
from network.server.listener import serving
from protocol.data.cid import cid_for, cid_to_text
from protocol.syntax.tid import tid_from_int
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner

DEV = Policy(
    allow_loopback=True, limits=HostLimits(rate=1e6, burst=10_000, concurrency=100)
)


class Host:
    """A host that reports the given state of each account."""

    def __init__(self) -> None:
        self.heads: dict[str, tuple[str, bytes]] = {}
        self.status = 200
        self.before_answer: Callable[[], None] = lambda: None

    def tell(self, someone: Author) -> None:
        head = someone.head()
        self.heads[someone.did] = (head.rev, cid_for(head.commit))

    def answer(self, request: Request) -> Response:
        self.before_answer()
        head = self.heads.get(request.query_params["did"])
        if self.status != 200:
            return JSONResponse({"error": "Trouble"}, self.status)
        if head is None:
            return JSONResponse({"error": "RepoNotFound"}, 400)
        return JSONResponse({"rev": head[0], "cid": cid_to_text(head[1])})


@contextlib.asynccontextmanager
async def world(
    host: Host, conn: Conn, *authors: Author
) -> AsyncIterator[NetworkClients]:
    route = Route("/xrpc/com.atproto.sync.getLatestCommit", host.answer)
    app = Starlette(routes=[route])
    async with serving(app, "127.0.0.1", 0) as url, Fetcher(DEV) as fetcher:
        with conn.transaction():
            conn.execute(
                "INSERT INTO host (id, hostname, url) OVERRIDING SYSTEM VALUE"
                " VALUES (77, %s, %s)",
                (url.removeprefix("http://"), url),
            )
            conn.execute(
                "UPDATE repo SET host = 77 FROM actor"
                " WHERE actor.id = repo.actor AND did = ANY(%s)",
                ([each.did for each in authors],),
            )
        yield NetworkClients(fetcher, IdentityResolver(fetcher))


def look(
    host: Host, conn: Conn, pool: Pool, interner: Interner, someone: Author
) -> Finding:
    async def run() -> Finding:
        async with world(host, conn, someone) as outside:
            auditor = Auditor(pool, interner, outside.fetcher, repair=True)
            return await auditor.check(someone.did)

    return asyncio.run(run())


def test_equal(conn: Conn, pool: Any, interner: Interner, two: list[Author]) -> None:
    host = Host()
    host.tell(two[0])
    found = look(host, conn, pool, interner, two[0])
    assert found.verdict is Verdict.EQUAL
    assert state_of(conn, two[0]) == "synchronized"


def test_lost_commit_is_fetched(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    a = two[0]
    a.write(POST, post("lost on the way"))
    host = Host()
    host.tell(a)
    assert look(host, conn, pool, interner, a).verdict is Verdict.BEHIND
    assert state_of(conn, a) == "desynchronized"
    import_repo(conn, interner, a)
    assert_indexed(conn, two)


def test_wrong_row_is_fetched_again(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    a = two[0]
    with conn.transaction():
        conn.execute(
            "UPDATE post SET langs = '{xx}' FROM actor"
            " WHERE actor.id = actor AND did = %s",
            (a.did,),
        )
    host = Host()
    host.tell(a)
    found = look(host, conn, pool, interner, a)
    assert found.verdict is Verdict.WRONG
    assert "post" in (found.detail or "")
    assert state_of(conn, a) == "desynchronized"
    import_repo(conn, interner, a)
    assert audit_whole(conn, interner, a.did).ok
    assert_indexed(conn, two)


def test_recent_commit_is_lag(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    import time

    now = tid_from_int(time.time_ns() // 1_000 << 10)
    host = Host()
    host.heads[two[0].did] = (now, cid_for(b"new"))
    assert look(host, conn, pool, interner, two[0]).verdict is Verdict.LAGGING
    assert state_of(conn, two[0]) == "synchronized"


def test_commit_during_check_is_no_fault(
    conn: Conn, pool: Any, interner: Interner, two: list[Author], apply: Any
) -> None:
    a = two[0]
    _, event = a.write(POST, post("just now"))
    host = Host()
    host.tell(a)
    host.before_answer = lambda: apply(event)
    assert look(host, conn, pool, interner, a).verdict is Verdict.LAGGING
    assert state_of(conn, a) == "synchronized"


def test_other_commit_of_same_rev_is_a_fork(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    a = two[0]
    host = Host()
    host.heads[a.did] = (a.head().rev, cid_for(b"another"))
    assert look(host, conn, pool, interner, a).verdict is Verdict.FORKED
    assert repo_row(conn, a.did) == ("desynchronized", None, None)


def test_host_that_went_back_is_reported_only(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    host = Host()
    host.heads[two[0].did] = ("3aaaaaaaaaaaa", cid_for(b"old"))
    assert look(host, conn, pool, interner, two[0]).verdict is Verdict.AHEAD
    assert state_of(conn, two[0]) == "synchronized"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Verdict.REFUSED), (500, Verdict.UNREACHABLE), (429, Verdict.UNREACHABLE)],
)
def test_hosts_that_do_not_answer(
    conn: Conn,
    pool: Any,
    interner: Interner,
    two: list[Author],
    status: int,
    verdict: Verdict,
) -> None:
    host = Host()
    host.status = status
    assert look(host, conn, pool, interner, two[0]).verdict is verdict
    assert state_of(conn, two[0]) == "synchronized"


def test_wrong_rows_stay_until_host_answers(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    a = two[0]
    with conn.transaction():
        conn.execute(CORRUPTIONS["row missing"], {"did": a.did})
    host = Host()
    host.status = 500
    assert look(host, conn, pool, interner, a).verdict is Verdict.WRONG
    assert state_of(conn, a) == "synchronized"
    with conn.transaction():
        conn.execute("UPDATE repo SET host = NULL; DELETE FROM host")
    host.status = 200
    host.tell(a)
    assert look(host, conn, pool, interner, a).verdict is Verdict.WRONG
    assert state_of(conn, a) == "desynchronized"
    import_repo(conn, interner, a)
    assert_indexed(conn, two)


def test_steps_count_findings(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    a, b = two
    with conn.transaction():
        conn.execute(CORRUPTIONS["row changed"], {"did": a.did, "other": b"\x00\xa0"})
    host = Host()
    host.tell(a)
    host.tell(b)

    async def run() -> None:
        async with world(host, conn, a, b) as outside:

            @contextlib.asynccontextmanager
            async def reopen() -> AsyncIterator[NetworkClients]:
                async with Fetcher(DEV) as fetcher:
                    yield NetworkClients(fetcher, outside.resolver)

            step = await asyncio.to_thread(
                audit_step, pool, interner, reopen, per_run=10.0
            )
            assert step == {Verdict.WRONG: 1, Verdict.EQUAL: 1}

    asyncio.run(run())
    figure = completeness(conn)
    conn.rollback()
    assert (figure.samples, figure.share) == (2, 0.5)
    assert figure.verdicts[Verdict.WRONG] == 1
    assert state_of(conn, a) == "desynchronized"


def test_only_known_active_repos_are_drawn(
    conn: Conn, two: list[Author], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Earlier tests have used up ids.
    monkeypatch.setattr("audit.samples._DRAWS", 1_000_000)
    assert {did for _, did in draw_repos(conn, 10)} == {each.did for each in two}
    assert len(draw_repos(conn, 1)) == 1
    assert draw_repos(conn, 0) == []
    conn.execute(
        "UPDATE actor SET upstream_status = 'deleted' WHERE did = %s", (two[0].did,)
    )
    assert [did for _, did in draw_repos(conn, 10)] == [two[1].did]
    conn.execute("UPDATE actor SET takedown = 'spam'")
    assert draw_repos(conn, 10) == []
    conn.rollback()


def test_completeness_has_an_interval(conn: Conn) -> None:
    assert completeness(conn).share is None
    for number in range(40):
        note_sample(conn, 1, Verdict.EQUAL if number else Verdict.WAITING, None)
    figure = completeness(conn)
    assert figure.share == 39 / 40
    assert figure.low is not None
    assert figure.high is not None
    assert 0.86 < figure.low < 0.88
    assert 0.99 < figure.high < 1.0
    conn.rollback()
    # A hundred of a hundred do not prove all.
    assert wilson(100, 100)[0] == pytest.approx(0.963, abs=0.001)
    assert wilson(0, 100)[1] == pytest.approx(0.037, abs=0.001)


def test_old_samples_are_deleted(conn: Conn) -> None:
    conn.execute(
        "INSERT INTO audit_sample (actor, verdict) SELECT 1, 'wrong'"
        " FROM generate_series(1, %s)",
        (KEPT,),
    )
    for _ in range(5):
        note_sample(conn, 1, Verdict.EQUAL, None)
    figure = completeness(conn)
    assert (figure.samples, figure.verdicts[Verdict.EQUAL]) == (KEPT, 5)
    conn.rollback()
