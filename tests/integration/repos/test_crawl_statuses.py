"""Statuses by getRepoStatus, for accounts without events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from crawl_fakes import FakeResolver, FakeSink, fake_clients
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.hosts.status_sweep import read_status
from crawler.settings import CrawlSettings
from crawler.tasks import CrawlTasks
from network.server.listener import serving_in_thread
from protocol.events.event import AccountEvent
from storage import jobs
from storage.hosts import host_rows
from storage.postgres.pool import Pool
from storage.repos import repo_rows


def did_of(n: int) -> str:
    return f"did:plc:{chr(97 + n // 26) * 12}{chr(97 + n % 26) * 12}"


class StatusHost:
    """Serves getRepoStatus from `statuses`: None for active, missing for not found."""

    def __init__(self) -> None:
        self.statuses: dict[str, str | None] = {}
        self.asked: Counter[str] = Counter()
        self.busy = False
        self.broken = False

    def app(self) -> Starlette:
        path = "/xrpc/com.atproto.sync.getRepoStatus"
        return Starlette(routes=[Route(path, self.answer)])

    async def answer(self, request: Request) -> Response:
        did = request.query_params["did"]
        self.asked[did] += 1
        if self.busy:
            return Response(status_code=429, headers={"Retry-After": "60"})
        if self.broken:
            return JSONResponse({"did": "did:plc:other", "active": False})
        if did not in self.statuses:
            return JSONResponse(
                {"error": "RepoNotFound", "message": did}, status_code=400
            )
        status = self.statuses[did]
        body: dict[str, Any] = {"did": did, "active": status is None}
        return JSONResponse(body if status is None else body | {"status": status})


class World:
    def __init__(self, pool: Pool, stack: ExitStack) -> None:
        self.pool = pool
        self.host = StatusHost()
        url = stack.enter_context(serving_in_thread(self.host.app()))
        self.sink = FakeSink()
        with pool.connection() as conn:
            self.id, _ = host_rows.put_host(
                conn, url.removeprefix("http://"), url, source="did_document"
            )
            host_rows.note_contact(conn, self.id, host_rows.HOST_STREAMING)
            conn.execute("UPDATE host SET listed_at = now(), polled_at = now()")

    def add(self, *dids: str, age: str | None = None) -> None:
        with self.pool.connection() as conn:
            repo_rows.add_repos(conn, self.id, dids)
            conn.execute("UPDATE repo SET status_at = now() - %s::interval", (age,))

    def execute(self, sql: str) -> None:
        with self.pool.connection() as conn:
            conn.execute(sql)

    def sweep(self, limit: int = 300) -> dict[str, int]:
        tasks = CrawlTasks(
            CrawlSettings(dev=True), self.pool, self.sink, fake_clients(FakeResolver())
        )
        return tasks.sweep_statuses(limit)

    def age(self, interval: str) -> None:
        with self.pool.connection() as conn:
            conn.execute(
                "UPDATE repo SET status_at = status_at - %s::interval", (interval,)
            )


@pytest.fixture
def world(pool: Pool) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(pool, stack)


def test_sweep_applies_missed_statuses(world: World) -> None:
    told = {did_of(0): None, did_of(1): "takendown", did_of(2): "made up"}
    world.host.statuses |= told
    world.add(*told)
    result = world.sweep()
    assert (result["asked"], result["changed"]) == (3, 2)
    assert sorted(world.sink.events, key=lambda event: event.did) == [
        AccountEvent(did_of(1), False, "takendown", host=world.id),  # type: ignore[arg-type]
        AccountEvent(did_of(2), False, "inactive", host=world.id),  # type: ignore[arg-type]
    ]
    # Nothing is due now; in a week it is.
    assert world.sweep()["asked"] == 0
    world.age("6 days 23 hours")
    assert world.sweep()["asked"] == 0
    world.age("2 hours")
    assert world.sweep()["asked"] == 3


def test_sweep_shows_reactivated_account(world: World) -> None:
    world.host.statuses[did_of(0)] = None
    world.add(did_of(0))
    world.execute("UPDATE actor SET upstream_status = 'deactivated'")
    assert world.sweep()["changed"] == 1
    assert world.sink.events == [AccountEvent(did_of(0), True, None, host=world.id)]  # type: ignore[arg-type]


def test_repo_unknown_to_its_host_is_hidden_the_second_time(world: World) -> None:
    world.add(did_of(0))
    assert world.sweep()["unknown"] == 1
    assert world.sink.events == []
    with world.pool.connection() as conn:
        assert jobs.count_jobs(conn) == {"identity": 1}
    assert world.sweep()["asked"] == 0
    world.age("61 minutes")
    assert world.sweep()["changed"] == 1
    assert world.sink.events == [
        AccountEvent(did_of(0), False, "inactive", host=world.id)  # type: ignore[arg-type]
    ]
    # From then on once a week, like any other.
    world.age("61 minutes")
    assert world.sweep()["asked"] == 0


def test_host_with_many_accounts_is_listed_instead(world: World) -> None:
    world.add(*(did_of(n) for n in range(60)))
    world.execute("UPDATE host SET listed_at = NULL, polled_at = NULL")
    assert world.sweep() == {"hosts": 1, "asked": 0, "listings": 1}
    assert not world.host.asked
    # Those that the listing does not name are asked for, some at a time.
    world.execute("UPDATE host SET listed_at = now(), polled_at = now()")
    assert world.sweep()["asked"] == 20
    assert world.sweep()["asked"] == 20
    assert world.host.asked.total() == len(world.host.asked) == 40


def test_rate_limited_host_is_left_alone(world: World) -> None:
    world.add(*(did_of(n) for n in range(5)))
    world.host.busy = True
    world.sweep()
    asked = world.host.asked.total()
    assert asked == 1
    assert world.sweep() == {"hosts": 0, "asked": 0}
    world.execute("UPDATE host SET rate_limited_until = NULL")
    world.host.busy, world.host.broken = False, True
    assert world.sweep()["failed"] >= 1
    assert world.sink.events == []


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"did": "did:x"},
        {"did": "did:x", "active": "yes"},
        {"active": True},
    ],
)
def test_invalid_status_changes_nothing(answer: Any) -> None:
    assert read_status(answer, "did:x") is None
