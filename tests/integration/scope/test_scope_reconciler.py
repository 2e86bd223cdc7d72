"""The scope reconciler, round by round: nothing is lost."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest
from crawl_author import Author, post
from crawl_scopes import BLOG, FOLLOW, POST, choose, follow, people
from crawl_world import CrawlWorld
from reconciler_rounds import Rounds, bring_in, bring_in_parts, dids, scoped

import crawler.scope.reconciler as module
from storage.postgres.pool import Conn
from storage.repos.scope_rows import (
    ScopeKind,
    add_accounts,
    claim_missing,
    load_scope,
    set_scope,
)

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


def test_new_seed_does_not_refetch_known_accounts(world: CrawlWorld) -> None:
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


# what is settled costs nothing


def test_settled_accounts_are_not_scanned_again(world: CrawlWorld) -> None:
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
        # Removals do not wait for that.
        choose(world, "dids", a)
        while keeper.look():
            pass
    assert world.heads().keys() == dids(a)
