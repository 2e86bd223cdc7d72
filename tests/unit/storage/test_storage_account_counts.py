"""Counts of a host's accounts, after moves, removals and returns."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from crawler.hosts.host_name import HostName
from crawler.identities.accounts import Account
from crawler.scope.admission import Admission, Placement, place_repos
from crawler.settings import CrawlSettings
from indexer.repos.scope_removal import remove_out_of_scope
from protocol.syntax.did import Did
from storage.hosts import host_rows
from storage.hosts.host_budget import set_limit
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner
from storage.repos.scope_rows import ScopeKind, set_scope

NAMES = [HostName(f"{letter}.example.com") for letter in "abc"]


@pytest.fixture
def interner(pool: Pool) -> Interner:
    return Interner(pool)


def did(n: int) -> Did:
    return Did(
        "did:plc:" + f"{n:024d}".translate(str.maketrans("0123456789", "abcdefghij"))
    )


def account(n: int, name: HostName) -> Account:
    return Account(did(n), pds=name, pds_url=f"https://{name}", found=True)


def admit(conn: Conn, accounts: list[Account], **changes: Any) -> list[Did]:
    Admission(CrawlSettings(**changes)).admit(conn, accounts, relay=False)
    conn.commit()
    return [one.did for one in accounts if one.admitted]


def narrow(conn: Conn, interner: Interner, *leaving: Did) -> None:
    set_scope(conn, ScopeKind.DIDS, seeds=[did(999)])
    conn.commit()
    for one in leaving:
        remove_out_of_scope(conn, interner, one, datetime.now(UTC))
    set_scope(conn, ScopeKind.NETWORK)
    conn.commit()


def figures(conn: Conn, name: HostName) -> tuple[int, int]:
    row = conn.execute(
        "SELECT accounts, admitted FROM host WHERE hostname = %s", (name,)
    ).fetchone()
    assert row is not None
    conn.commit()
    return int(row[0]), int(row[1])


def test_returning_account_is_not_new(conn: Conn, interner: Interner) -> None:
    few = {"host_accounts_first_day": 3, "host_accounts_per_day": 3}
    crowd = [account(n, NAMES[0]) for n in range(3)]
    assert len(admit(conn, crowd, **few)) == 3
    narrow(conn, interner, *(one.did for one in crowd))
    assert figures(conn, NAMES[0]) == (0, 3)
    again = [account(n, NAMES[0]) for n in (7, 0, 8, 1, 2)]
    assert set(admit(conn, again, **few)) == {did(0), did(1), did(2)}
    assert figures(conn, NAMES[0]) == (3, 3)


def test_returning_accounts_keep_the_host_limit(conn: Conn, interner: Interner) -> None:
    crowd = [account(n, NAMES[0]) for n in range(3)]
    admit(conn, crowd)
    narrow(conn, interner, *(one.did for one in crowd))
    host = host_rows.find_hosts(conn, [NAMES[0]])[NAMES[0]]
    set_limit(conn, host.id, "max_accounts", 2)
    assert len(admit(conn, [account(n, NAMES[0]) for n in range(3)])) == 2


@pytest.mark.parametrize("seed", range(4))
def test_host_counts_match_rows(conn: Conn, interner: Interner, seed: int) -> None:
    rng = random.Random(seed)
    for name in NAMES:
        host_rows.put_host(conn, name, f"https://{name}", source="relay")
    for _ in range(30):
        chosen = rng.sample(range(12), rng.randint(1, 4))
        match rng.choice(["come", "move", "leave"]):
            case "come":
                admit(conn, [account(n, rng.choice(NAMES)) for n in chosen])
            case "move":
                places = []
                for n in chosen:
                    name = rng.choice(NAMES)
                    places.append(Placement(did(n), name, f"https://{name}"))
                place_repos(conn, places, relay=False)
                conn.commit()
            case "leave":
                here = conn.execute(
                    "SELECT did FROM actor JOIN repo ON actor.id = repo.actor"
                    " WHERE did = ANY(%s)",
                    ([did(n) for n in chosen],),
                ).fetchall()
                conn.commit()
                narrow(conn, interner, *(Did(one) for (one,) in here))
        counted = conn.execute(
            "SELECT accounts, (SELECT count(*) FROM repo WHERE host = host.id)"
            " FROM host"
        ).fetchall()
        conn.commit()
        assert all(accounts == there for accounts, there in counted)
