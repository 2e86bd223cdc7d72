"""Every kind of corruption, planted behind the index's back: found, and repaired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from indexer_world import (
    LIKE,
    NOW,
    POST,
    PROFILE,
    Author,
    author,
    expected_actor_counts,
    expected_post_counts,
    follow,
    held_actor_counts,
    held_post_counts,
    held_records,
    like,
    post,
    profile,
    quote,
    reply,
    repo_row,
    written_records,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from audit.auditor import Auditor, Finding, audit_step
from audit.repair import clear_repo
from audit.repo_audit import (
    RepoTooLargeError,
    audit_repo,
    describe_fault,
    recount_stats,
)
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
from indexer.repos.checkout import Checkout
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.identity.resolver import IdentityResolver
from network.server.listener import serving
from protocol.data.cid import cid_for, cid_to_text
from protocol.syntax.tid import tid_from_int
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner
from storage.records.record_codec import compress

DEV = Policy(
    allow_loopback=True, limits=HostLimits(rate=1e6, burst=10_000, concurrency=100)
)


@pytest.fixture
def two(apply: Any) -> list[Author]:
    """Two accounts that follow, like, quote and answer each other."""
    a, b = author(1), author(2)
    for someone, other in ((a, b), (b, a)):
        path, event = someone.write(POST, post("hello"))
        apply(event)
        for value in (
            *(
                like(someone.uri(path)),
                follow(other.did),
                reply(a.uri(path), b.uri(path)),
            ),
            *(
                quote(someone.uri(path)),
                {"$type": "org.example.note", "about": other.did},
            ),
        ):
            apply(someone.write(value["$type"], value)[1])
        apply(someone.commit({f"{PROFILE}/self": profile("Someone")}))
    return [a, b]


def fetch(conn: Conn, interner: Interner, someone: Author) -> None:
    with Checkout(conn, interner, someone.did, someone.host, now=NOW) as checkout:
        checkout.add(someone.repo_records())
        checkout.drop(someone.repo_drops())
        checkout.finish(someone.head())


def links(conn: Conn) -> list[Any]:
    rows = conn.execute("SELECT * FROM link ORDER BY 1, 2, 3, 4, 5, 6").fetchall()
    conn.rollback()
    return rows


def assert_right(conn: Conn, authors: list[Author]) -> None:
    assert held_records(conn) == written_records(authors)
    assert held_post_counts(conn) == expected_post_counts(authors)
    assert held_actor_counts(conn) == expected_actor_counts(authors)
    conn.rollback()
    assert recount_stats(conn).ok
    assert all(audit_repo(conn, each.did).ok for each in authors)


A = "(SELECT id FROM actor WHERE did = %(did)s)"
ONE = f"actor = {A} AND rkey = (SELECT max(rkey) FROM post WHERE actor = {A})"
LIKE_ID = f"(SELECT id FROM collection WHERE nsid = '{LIKE}')"

CORRUPTIONS = {
    "row missing": f"DELETE FROM record WHERE {ONE}",
    "edge missing": f"DELETE FROM record WHERE actor = {A} AND collection = {LIKE_ID}",
    "row changed": f"UPDATE record SET value = %(other)s WHERE {ONE}",
    "row damaged": rf"UPDATE record SET value = '\x01ffff00ff' WHERE {ONE}",
    "row emptied": rf"UPDATE record SET value = '\x' WHERE {ONE}",
    "row of a lost dictionary": rf"UPDATE record SET value = '\x7700' WHERE {ONE}",
    "extra row": f"INSERT INTO record SELECT actor, collection, rkey + 7, value"
    f" FROM record WHERE {ONE}",
    "row moved": f"UPDATE record SET rkey = rkey + 7 WHERE {ONE}",
    "dropped record forgotten": f"INSERT INTO dropped_record VALUES"
    rf" ({A}, '\x00', '\x6162632f64', %(cid)s, 'x')",
    "wrong root": f"UPDATE repo SET data = %(cid)s WHERE actor = {A}",
    "commit of another": f"UPDATE repo SET commit = (SELECT commit FROM repo"
    f" WHERE actor <> {A} LIMIT 1) WHERE actor = {A}",
    "commit damaged": f"UPDATE repo SET commit = '\\x00' WHERE actor = {A}",
    "wrong rev": f"UPDATE repo SET rev = '3zzzzzzzzzzzz' WHERE actor = {A}",
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_found_and_repaired(
    conn: Conn, interner: Interner, two: list[Author], name: str
) -> None:
    a = two[0]
    assert_right(conn, two)
    before = links(conn)
    with conn.transaction():
        changed = conn.execute(
            CORRUPTIONS[name],
            {"did": a.did, "other": compress(b"\xa0"), "cid": cid_for(b"x")},
        )
        assert changed.rowcount == 1, "the corruption was not planted"
    found = audit_repo(conn, a.did)
    assert not found.ok
    assert describe_fault(found)
    assert audit_repo(conn, two[1].did).ok
    clear_repo(conn, interner, a.did, NOW, "wrong")
    assert repo_row(conn, a.did) == ("desynchronized", None, None)
    conn.rollback()
    assert held_records(conn) == written_records(two[1:])
    conn.rollback()
    assert recount_stats(conn).ok, "clearing must leave no count behind"
    fetch(conn, interner, a)
    assert_right(conn, two)
    assert links(conn) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE post_stats SET likes = likes + 1",
        "UPDATE post_stats SET quotes = 99",
        "DELETE FROM post_stats",
        "INSERT INTO post_stats (actor, rkey, likes) SELECT actor, 12345, 3"
        " FROM post_stats LIMIT 1",
        "UPDATE actor_stats SET followers = 0, posts = posts - 1",
        "DELETE FROM actor_stats",
        "DELETE FROM link WHERE path = (SELECT min(path) FROM link)",
    ],
)
def test_a_wrong_stat_is_found_and_repaired(
    conn: Conn, two: list[Author], statement: str
) -> None:
    assert recount_stats(conn).ok
    with conn.transaction():
        assert conn.execute(statement).rowcount > 0
    assert not recount_stats(conn).ok
    assert not recount_stats(conn, repair=True).ok
    assert recount_stats(conn).ok


def test_a_step_does_not_read_a_repo_of_any_size(conn: Conn, two: list[Author]) -> None:
    size = len(two[0].records)
    assert audit_repo(conn, two[0].did, most_records=size).ok
    with pytest.raises(RepoTooLargeError):
        audit_repo(conn, two[0].did, most_records=size - 1)


# Against hosts.


class Host:
    """Says of each account what it is told to say."""

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
    host: Host,
    conn: Conn,
    pool: Pool,
    interner: Interner,
    someone: Author,
) -> Finding:
    async def run() -> Finding:
        async with world(host, conn, someone) as outside:
            auditor = Auditor(pool, interner, outside.fetcher, repair=True)
            return await auditor.look(someone.did)

    return asyncio.run(run())


def state(conn: Conn, someone: Author) -> str:
    row = repo_row(conn, someone.did)
    conn.rollback()
    return str(row[0])


def test_equal(conn: Conn, pool: Any, interner: Interner, two: list[Author]) -> None:
    host = Host()
    host.tell(two[0])
    found = look(host, conn, pool, interner, two[0])
    assert found.verdict is Verdict.EQUAL
    assert state(conn, two[0]) == "synchronized"


def test_a_commit_that_never_came_is_fetched(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    a = two[0]
    a.write(POST, post("lost on the way"))
    host = Host()
    host.tell(a)
    assert look(host, conn, pool, interner, a).verdict is Verdict.BEHIND
    assert state(conn, a) == "desynchronized"
    fetch(conn, interner, a)
    assert_right(conn, two)


def test_a_wrong_row_beside_right_records_is_fetched_anew(
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
    assert state(conn, a) == "desynchronized"
    fetch(conn, interner, a)
    assert audit_whole(conn, interner, a.did).ok
    assert_right(conn, two)


def test_what_is_of_a_moment_ago_is_lag(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    import time

    now = tid_from_int(time.time_ns() // 1_000 << 10)
    host = Host()
    host.heads[two[0].did] = (now, cid_for(b"new"))
    assert look(host, conn, pool, interner, two[0]).verdict is Verdict.LAGGING
    assert state(conn, two[0]) == "synchronized"


def test_what_comes_while_the_host_is_asked_is_no_fault(
    conn: Conn, pool: Any, interner: Interner, two: list[Author], apply: Any
) -> None:
    a = two[0]
    _, event = a.write(POST, post("just now"))
    host = Host()
    host.tell(a)
    host.before_answer = lambda: apply(event)
    assert look(host, conn, pool, interner, a).verdict is Verdict.LAGGING
    assert state(conn, a) == "synchronized"


def test_another_commit_under_the_same_rev_is_a_fork(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    a = two[0]
    host = Host()
    host.heads[a.did] = (a.head().rev, cid_for(b"another"))
    assert look(host, conn, pool, interner, a).verdict is Verdict.FORKED
    assert repo_row(conn, a.did) == ("desynchronized", None, None)


def test_a_host_that_went_back_is_told_and_not_followed(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    host = Host()
    host.heads[two[0].did] = ("3aaaaaaaaaaaa", cid_for(b"old"))
    assert look(host, conn, pool, interner, two[0]).verdict is Verdict.AHEAD
    assert state(conn, two[0]) == "synchronized"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Verdict.REFUSED), (500, Verdict.UNREACHABLE), (429, Verdict.UNREACHABLE)],
)
def test_hosts_that_do_not_tell(
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
    assert state(conn, two[0]) == "synchronized"


def test_wrong_rows_stay_until_their_host_answers(
    conn: Conn, pool: Any, interner: Interner, two: list[Author]
) -> None:
    """Something wrong is better than nothing."""
    a = two[0]
    with conn.transaction():
        conn.execute(CORRUPTIONS["row missing"], {"did": a.did})
    host = Host()
    host.status = 500
    assert look(host, conn, pool, interner, a).verdict is Verdict.WRONG
    assert state(conn, a) == "synchronized"
    with conn.transaction():
        conn.execute("UPDATE repo SET host = NULL; DELETE FROM host")
    host.status = 200
    host.tell(a)
    assert look(host, conn, pool, interner, a).verdict is Verdict.WRONG
    assert state(conn, a) == "desynchronized"
    fetch(conn, interner, a)
    assert_right(conn, two)


def test_steps_find_what_is_wrong_and_count_it(
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
    assert state(conn, a) == "desynchronized"


def test_only_known_active_repos_are_drawn(
    conn: Conn, two: list[Author], monkeypatch: pytest.MonkeyPatch
) -> None:
    # However many ids the tests before have used up.
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


def test_the_figure_has_its_error(conn: Conn) -> None:
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
    # A hundred hits of a hundred are no proof of all.
    assert wilson(100, 100)[0] == pytest.approx(0.963, abs=0.001)
    assert wilson(0, 100)[1] == pytest.approx(0.037, abs=0.001)


def test_old_samples_are_forgotten(conn: Conn) -> None:
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
