"""The scope reconciler, round by round: nothing is lost, and no host delays it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from crawl_author import Author, post
from crawl_scopes import BLOG, FOLLOW, POST, choose, follow, people
from crawl_world import CrawlWorld, wait_until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import crawler.scope.reconciler as module
from crawler.database import Database
from crawler.scope.reconciler import ScopeReconciler
from network.server.listener import serving_in_thread
from storage.hosts import host_rows
from storage.postgres.pool import Conn
from storage.repos.scope_rows import (
    ScopeKind,
    add_accounts,
    claim_missing,
    load_scope,
    set_scope,
)


class Rounds:
    """A keeper that does a round when it is told to, on a loop of its own."""

    def __init__(self, world: CrawlWorld, **changes: Any) -> None:
        self._world = world
        self._changes = changes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> Rounds:
        self._thread.start()
        self._await(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self.keeper.close())
        self._await(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self) -> None:
        clients = await self._stack.enter_async_context(self._world.open_clients())
        self.keeper = ScopeReconciler(
            self._world.settings(**self._changes),
            Database(self._world.pool),
            clients,
            self._world.sink.remove_out_of_scope,
            self._world.sink.keep_wanted,
        )

    def _await(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def look(self) -> bool:
        return bool(self._await(self.keeper.look()))


def scoped(world: CrawlWorld) -> set[str]:
    return {did for (did,) in world.query("SELECT did FROM scope_account")}


def dids(*authors: Author) -> set[str]:
    return {author.did for author in authors}


def bring_in(world: CrawlWorld, *authors: Author) -> None:
    with world.crawling():
        wait_until(lambda: world.follows(*authors))


# follows


def test_follow_survives_a_rolled_back_transaction(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    seed, b = people(world, host, 2)
    seed.write([("create", f"{FOLLOW}/b", follow(b))])
    bring_in(world, seed, b)
    choose(world, "follows", seed)
    failures = [psycopg.OperationalError("the server went away")]

    def fail_once(*args: Any, **kwargs: Any) -> int:
        if failures:
            raise failures.pop()
        return add_accounts(*args, **kwargs)

    monkeypatch.setattr(module, "add_accounts", fail_once)
    with Rounds(world) as keeper:
        keeper.look()
    assert scoped(world) == dids(seed, b)


def test_follows_of_a_held_revision_are_seen(world: CrawlWorld) -> None:
    host = world.add_host()
    seed, b, c = people(world, host, 3)
    seed.write([("create", f"{FOLLOW}/b", follow(b))])
    choose(world, "network", keep=[POST])
    bring_in_parts(world, seed, b, c)
    choose(world, "follows", seed)
    with Rounds(world) as keeper:
        keeper.look()
        assert world.heads().keys() == dids(seed, b, c), "nobody knows who is to go"
        bring_in(world, seed)
        keeper.look()
        assert scoped(world) == dids(seed, b)
        keeper.look()
        assert world.heads().keys() == dids(seed, b)


def bring_in_parts(world: CrawlWorld, *authors: Author) -> None:
    def held() -> bool:
        heads = world.heads()
        return all(heads.get(a.did, ("",))[0] == "synchronized" for a in authors)

    with world.crawling():
        wait_until(held)


def test_repeated_or_removed_seed_keeps_no_account(world: CrawlWorld) -> None:
    host = world.add_host()
    seed, gone, b, c = people(world, host, 4)
    seed.write([("create", f"{FOLLOW}/b", follow(b))])
    gone.write([("create", f"{FOLLOW}/c", follow(c))])
    bring_in(world, seed, gone, b, c)
    choose(world, "follows", seed, seed, gone)
    with Rounds(world) as keeper:
        keeper.look()
        assert scoped(world) == dids(seed, gone, b, c)
        world.query(
            "UPDATE actor SET upstream_status = 'deleted' WHERE did = %s RETURNING 1",
            gone.did,
        )
        world.sink.purge_deleted(10)
        world.query(
            "UPDATE repo SET rev = NULL WHERE actor = (SELECT id FROM actor"
            " WHERE did = %s) RETURNING 1",
            gone.did,
        )
        keeper.look()
        assert scoped(world) == dids(seed, gone, b)
    # So it is for a keeper that begins after that.
    choose(world, "follows", seed, seed, gone)
    with Rounds(world) as keeper:
        while keeper.look():
            pass
    assert world.heads().keys() == dids(seed, gone, b)


def test_unknown_seed_does_not_keep_all_accounts(world: CrawlWorld) -> None:
    host = world.add_host()
    seed, b = people(world, host, 2)
    bring_in(world, seed, b)
    choose(world, "follows", seed, Author(99))
    with Rounds(world) as keeper:
        keeper.look()
        assert world.heads().keys() == dids(seed, b), "it may follow b"
        world.query(
            "UPDATE scope SET changed_at = changed_at - interval '2 hours' RETURNING 1"
        )
        keeper.look()
        keeper.look()
    assert world.heads().keys() == dids(seed)


def test_new_seed_does_not_refetch_known_accounts(
    world: CrawlWorld,
) -> None:
    host = world.add_host()
    a, b, mine, both, yours = people(world, host, 5)
    a.write([("create", f"{FOLLOW}/1", follow(mine))])
    a.write([("create", f"{FOLLOW}/2", follow(both))])
    b.write([("create", f"{FOLLOW}/1", follow(both))])
    b.write([("create", f"{FOLLOW}/2", follow(yours))])
    bring_in(world, a, b, mine, both, yours)
    choose(world, "follows", a)
    with Rounds(world) as keeper:
        while keeper.look():
            pass
        assert world.heads().keys() == dids(a, mine, both)
        bring_in_parts(world, a, mine, both)
        choose(world, "follows", a, b)
        for _ in range(3):
            keeper.look()
        states = {did: state for did, (state, *_) in world.heads().items()}
        assert [states[one.did] for one in (a, mine, both)] == ["synchronized"] * 3
        assert scoped(world) >= dids(a, b, mine, both)
        bring_in(world, b)
        while keeper.look():
            pass
        assert scoped(world) == dids(a, b, mine, both, yours)
        choose(world, "follows", b)
        while keeper.look():
            pass
        assert scoped(world) == dids(b, both, yours)
        assert dids(a, mine).isdisjoint(world.heads())


# a scope that is set anew meanwhile


def test_members_of_a_former_scope_do_not_join(world: CrawlWorld) -> None:
    a, b = Author(1), Author(2)
    choose(world, "collection", collections=[BLOG])
    with world.pool.connection() as conn:
        former = load_scope(conn)
    choose(world, "dids", a)
    with world.pool.connection() as conn:
        assert add_accounts(conn, [b.did], mend=True, scope=former) == 0
        assert add_accounts(conn, [b.did], scope=load_scope(conn)) == 1


def test_follows_read_for_a_former_scope_do_not_join(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    seed, b = people(world, host, 2)
    seed.write([("create", f"{FOLLOW}/b", follow(b))])
    bring_in(world, seed, b)
    choose(world, "follows", seed)

    def load_then_change(conn: Conn) -> Any:
        scope = load_scope(conn)
        conn.commit()
        choose(world, "dids", seed)
        return scope

    with Rounds(world) as keeper:
        monkeypatch.setattr(module, "load_scope", load_then_change)
        keeper.look()
        monkeypatch.undo()
        while keeper.look():
            pass
    assert scoped(world) == dids(seed)
    assert world.heads().keys() == dids(seed)


def test_interrupted_removal_is_completed_on_return(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    a, b = people(world, host, 2)
    for n in range(5):
        b.write([("create", f"{POST}/{n}", post("x"))])
    bring_in(world, a, b)
    choose(world, "dids", a)
    monkeypatch.setattr("indexer.account._PURGE_ROWS", 2)

    class KilledError(Exception):
        pass

    pages: list[int] = []

    def page(*args: Any) -> tuple[int, bool]:
        from indexer.account import remove_page

        if pages:
            raise KilledError
        pages.append(1)
        return remove_page(*args)

    monkeypatch.setattr("indexer.repos.scope_removal.remove_page", page)
    with pytest.raises(KilledError):
        world.sink.remove_out_of_scope([b.did])
    choose(world, "dids", a, b)
    bring_in(world, a, b)


# holders of a collection


class Listing:
    """Lists members of a collection in one of several ways, and counts requests."""

    def __init__(self, way: str, holders: Sequence[str] = ()) -> None:
        self.way, self.holders, self.requests = way, holders, 0
        path = "/xrpc/com.atproto.sync.listReposByCollection"
        self.app = Starlette(routes=[Route(path, self._list)])

    async def _list(self, request: Request) -> Response:
        self.requests += 1
        n = int(request.query_params.get("cursor") or 0)
        if self.way == "none":
            body = {"error": "MethodNotImplemented", "message": "no"}
            return JSONResponse(body, status_code=501)
        if self.way == "ever busy" or (self.way == "busy" and self.requests == 2):
            return Response(status_code=429, headers={"Retry-After": "1"})
        if self.way == "endless":
            found = [{"did": Author(1_000 * (n + 1) + k).did} for k in range(5)]
            return JSONResponse({"repos": found, "cursor": str(n + 1)})
        if self.way == "silent":
            await asyncio.sleep(30)
        rest = self.holders[n : n + 1]
        body_: dict[str, Any] = {"repos": [{"did": did} for did in rest]}
        if n + 1 < len(self.holders):
            body_["cursor"] = str(n + 1)
        return JSONResponse(body_)


@contextlib.contextmanager
def listing(
    world: CrawlWorld, way: str, holders: Sequence[str] = (), **how: Any
) -> Iterator[Listing]:
    served = Listing(way, holders)
    state = how.pop("state", host_rows.HOST_POLLING)
    how.setdefault("source", host_rows.SOURCE_DOCUMENT)
    with serving_in_thread(served.app) as url:
        with world.pool.connection() as conn:
            host, _ = host_rows.put_host(conn, url.partition("://")[2], url, **how)
            conn.execute("UPDATE host SET state = %s WHERE id = %s", (state, host))
        yield served


def test_no_host_delays_the_reconciler(world: CrawlWorld) -> None:
    host = world.add_host()
    [a] = people(world, host, 1)
    with listing(world, "silent") as silent, listing(world, "endless"):
        choose(world, "collection", collections=[BLOG])
        with Rounds(world) as keeper:
            keeper.look()
            wait_until(lambda: silent.requests)
            choose(world, "dids", a)
            wait_until(lambda: not keeper.look())
            bring_in(world, a)


def test_untrusted_host_names_a_bounded_number(world: CrawlWorld) -> None:
    with listing(world, "endless") as endless:
        choose(world, "collection", collections=[BLOG])
        with Rounds(world, host_accounts_first_day=20) as keeper:
            keeper.look()
            wait_until(lambda: len(scoped(world)) >= 20)
            time.sleep(0.5)
            assert (len(scoped(world)), endless.requests) == (20, 4)


def test_host_without_listing_is_skipped_and_busy_host_continues(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.scope.collection_members._LOOK", 0.2)
    holders = [Author(n).did for n in range(3)]
    with (
        listing(world, "none") as none,
        listing(world, "busy", holders) as busy,
        listing(world, "", state=host_rows.HOST_BANNED) as banned,
    ):
        choose(world, "collection", collections=[BLOG])
        with Rounds(world) as keeper:
            keeper.look()
            wait_until(lambda: scoped(world) == set(holders))
            wait_until(lambda: none.requests)
            time.sleep(0.5)
            asked = none.requests, busy.requests, banned.requests
            assert asked == (1, 4, 0)
            # A day has not passed; a host that we did not know is asked at once.
            monkeypatch.setattr("crawler.scope.collection_members._LOOK", 0.0)
            with listing(world, "", [Author(7).did]):
                time.sleep(0.1)
                keeper.look()
                wait_until(lambda: Author(7).did in scoped(world))
            assert (none.requests, busy.requests) == asked[:2]


def test_slow_listing_does_not_delay_new_hosts(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.scope.collection_members._LOOK", 0.0)
    with listing(world, "ever busy", source=host_rows.SOURCE_CONFIGURED) as busy:
        choose(world, "collection", collections=[BLOG])
        with Rounds(world) as keeper:
            keeper.look()
            wait_until(lambda: busy.requests)
            with listing(world, "", [Author(7).did]):
                # A look for each, as there is one every half minute.
                wait_until(lambda: keeper.look() or Author(7).did in scoped(world))
            asked = busy.requests
            wait_until(lambda: busy.requests > asked)


# what is settled costs nothing


def test_settled_accounts_are_not_scanned_again(
    world: CrawlWorld,
) -> None:
    with world.pool.connection() as conn:
        set_scope(conn, ScopeKind.DIDS, seeds=[Author(0).did])
        conn.execute(
            """
            WITH made AS (
                INSERT INTO actor (did) SELECT 'did:plc:' || n
                FROM generate_series(1, 3000) n RETURNING id, did
            ), joined AS (
                INSERT INTO scope_account (did, next_try)
                SELECT did, now() - interval '1 hour' FROM made
            )
            INSERT INTO repo (actor, state) SELECT id, 'synchronized' FROM made
            """
        )
        conn.execute("UPDATE scope_account SET next_try = now() - interval '2 hours'"
                     " WHERE did = %s", (Author(0).did,))  # fmt: skip
        conn.execute(
            "INSERT INTO scope_account (did, next_try)"
            " VALUES ('did:plc:late', now() - interval '1 minute')"
        )
        found: list[str] = []
        for _ in range(5):
            found += claim_missing(conn, 32, wait=600.0)
        assert found == [Author(0).did, "did:plc:late"]
        due = conn.execute(
            "SELECT count(*) FROM scope_account WHERE next_try <= now()"
        ).fetchone()
        assert due == (0,)


def test_no_comparison_without_new_follows(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    seed, b = people(world, host, 2)
    seed.write([("create", f"{FOLLOW}/b", follow(b))])
    bring_in(world, seed, b)
    choose(world, "follows", seed)
    with Rounds(world) as keeper:
        keeper.look()
        loads: list[int] = []
        real = module.load_accounts

        def load(*args: Any) -> Any:
            loads.append(1)
            return real(*args)

        monkeypatch.setattr(module, "load_accounts", load)
        seed.write([("create", f"{POST}/a", post("a"))])
        world.query("UPDATE host SET listed_at = NULL RETURNING 1")
        bring_in(world, seed)
        keeper.look()
        assert loads == []
        seed.write([("delete", f"{FOLLOW}/b", None)])
        world.query("UPDATE host SET listed_at = NULL RETURNING 1")
        bring_in(world, seed)
        keeper.look()
        assert (loads, scoped(world)) == ([], dids(seed))


def test_search_for_outsiders_takes_little_time(
    world: CrawlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.add_host()
    a, b = people(world, host, 2)
    bring_in(world, a, b)
    looks: list[int] = []
    real = module.find_out_of_scope

    def find(*args: Any) -> Any:
        looks.append(1)
        time.sleep(0.05)
        return real(*args)

    monkeypatch.setattr(module, "find_out_of_scope", find)
    choose(world, "dids", a, b)
    with Rounds(world) as keeper:
        for _ in range(10):
            keeper.look()
        assert len(looks) == 1
        # Who is to go has not to wait for that.
        choose(world, "dids", a)
        while keeper.look():
            pass
    assert world.heads().keys() == dids(a)
