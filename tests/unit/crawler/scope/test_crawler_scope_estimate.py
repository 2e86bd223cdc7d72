"""Estimates of a scope, and its progress in words."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.hosts.discovery import add_configured
from crawler.scope import estimate as module
from crawler.scope.estimate import (
    Basis,
    Counted,
    Sources,
    count_accounts,
    estimate,
    read_basis,
    with_added,
)
from crawler.scope.report import as_fields, describe, explain
from crawler.settings import CrawlSettings
from network.errors import DidNotFoundError
from network.http.client import Fetcher
from network.http.policy import Policy
from network.server.listener import serving_in_thread
from protocol.identity.did_document import DidDocument, parse_did_document
from storage.hosts.host_rows import put_host
from storage.postgres.pool import Conn
from storage.repos.scope_progress import ScopeProgress
from storage.repos.scope_rows import Scope, ScopeKind

A, B = "did:plc:" + "a" * 24, "did:plc:" + "b" * 24
BLOG = "com.example.blog.entry"


def page(name: str, entries: list[Any], size: int = 2) -> Any:
    async def answer(request: Request) -> Response:
        start = int(request.query_params.get("cursor") or 0)
        body: dict[str, Any] = {name: entries[start : start + size]}
        if start + size < len(entries):
            body["cursor"] = str(start + size)
        return JSONResponse(body)

    return answer


def serve(answers: dict[str, Any]) -> Any:
    routes = [Route(f"/xrpc/{nsid}", answer) for nsid, answer in answers.items()]
    return serving_in_thread(Starlette(routes=routes))


@pytest.fixture
def host() -> Iterator[str]:
    follow = [{"value": {"subject": f"did:plc:{n}"}} for n in range(5)]
    relayed = [{"hostname": f"h{n}", "accountCount": n * 10} for n in range(4)]
    answers = {
        "com.atproto.repo.listRecords": page("records", [*follow, {"value": 5}]),
        "com.atproto.sync.listHosts": page("hosts", relayed),
        "com.atproto.sync.listRepos": page("repos", [{"did": n} for n in range(7)]),
        "com.atproto.sync.listReposByCollection": page(
            "repos", [{"did": f"did:plc:{n}"} for n in range(3)]
        ),
    }
    with serve(answers) as url:
        yield url


class Resolver:
    def __init__(self, url: str) -> None:
        self.url = url

    async def resolve_did(self, did: str, **_: Any) -> DidDocument:
        if did != A:
            raise DidNotFoundError(did)
        service = {
            "id": "#atproto_pds",
            "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": self.url,
        }
        return parse_did_document({"id": did, "service": [service]}, did, dev=True)


@pytest.fixture
def count(host: str) -> Callable[..., Counted]:
    def run(scope: Scope, **sources: Any) -> Counted:
        async def work() -> Counted:
            async with Fetcher(Policy(allow_loopback=True)) as fetcher:
                resolver: Any = Resolver(host)
                asked = Sources(dev=True, **sources)
                return await count_accounts(scope, asked, fetcher, resolver)

        return asyncio.run(work())

    return run


def test_count_accounts_asks_the_hosts(
    count: Callable[..., Counted], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:1"
    assert count(Scope(ScopeKind.DIDS, (A, B))) == Counted(2)
    assert count(Scope(ScopeKind.FOLLOWS, (A,))) == Counted(6)
    assert count(Scope(ScopeKind.FOLLOWS, (A, B))) == Counted(
        7, complete=False, unanswered=(B,)
    )
    blog = Scope(ScopeKind.COLLECTION, collections=(BLOG,))
    assert count(blog, relays=(host,)) == Counted(3)
    assert count(blog, relays=(nowhere,)) == Counted(0, False, None, (nowhere,))
    assert count(Scope(), relays=(host,)) == Counted(60, largest=30)
    assert count(Scope(), hosts=(host,)) == Counted(7, largest=7)
    monkeypatch.setattr(module, "MAX_PAGES", 2)
    assert count(Scope(), hosts=(host,)) == Counted(4, complete=False, largest=4)


def test_count_accounts_counts_a_host_of_a_relay_once(
    count: Callable[..., Counted],
) -> None:
    listed: list[dict[str, Any]] = []
    answers = {
        "com.atproto.sync.listHosts": page("hosts", listed),
        "com.atproto.sync.listRepos": page("repos", [{"did": n} for n in range(7)]),
    }
    with serve(answers) as url:
        port = url.rpartition(":")[2]
        listed += [{"hostname": f"LocalHost:{port}", "accountCount": 5}]
        found = count(Scope(), relays=(url,), hosts=(url,))
    assert found == Counted(7, largest=7)


def test_with_added_adds_trusted_hosts(conn: Conn) -> None:
    [old, *_] = add_configured(
        conn,
        ["https://old.example.com", "http://127.0.0.1:7", "https://set.example.com"],
        ["https://relay.example.com"],
        CrawlSettings(dev=True),
    )
    put_host(conn, "other.example.com", "https://other.example.com", source="plc")
    conn.execute("UPDATE host SET state = 'banned' WHERE id = %s", (old,))
    found = with_added(conn, Sources(hosts=("https://set.example.com",), dev=True))
    assert found.hosts == ("https://set.example.com", "http://127.0.0.1:7")
    assert found.relays == ("https://relay.example.com",)


def test_estimate_takes_the_time_of_the_slowest_part() -> None:
    basis = Basis(records_per_account=100.0, bytes_per_record=1_000.0)
    on_one = estimate(Counted(36_000), basis, Sources(account_cap=1_000))
    assert (on_one.records, on_one.disk_bytes) == (3_600_000, 3_600_000_000)
    assert (on_one.hours, on_one.slowest) == (2.0, "requests to one host")
    assert on_one.over_cap
    many = Counted(180_000, largest=10)
    lookups = estimate(many, basis, Sources())
    assert (lookups.hours, lookups.slowest) == (1.0, "identity lookups")
    assert not lookups.over_cap
    mirrored = estimate(many, basis, Sources(is_mirrored=True))
    assert (mirrored.hours, mirrored.slowest) == (0.5, "reading records")


def test_read_basis_measures_a_large_index(
    conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_basis(conn) == Basis()
    monkeypatch.setattr(module, "OWN_REPOS", 2)
    conn.execute(
        "INSERT INTO repo (actor, state)"
        " SELECT n, 'synchronized' FROM generate_series(1, 2) AS n"
    )
    conn.execute(
        "INSERT INTO record SELECT 1, 1, n, 'x' FROM generate_series(1, 10) AS n"
    )
    found = read_basis(conn)
    assert found.own
    assert found.records_per_account == 5.0
    assert found.bytes_per_record > 100_000


def test_describe_shows_progress() -> None:
    scope = Scope(ScopeKind.DIDS, (A,))
    progress = ScopeProgress(100, 90, 70, 5, 30, 2)
    assert describe(scope, progress) == [
        f"scope: dids ({A})",
        "repos: 75 of 100 accounts; 30 fetched in the last ten minutes",
        "unavailable: 5",
        "to be removed: 2",
        "left: about 0.1 hours",
    ]
    chosen = Scope(ScopeKind.DIDS, (A,), keep=(BLOG,))
    partial = ScopeProgress(2, 2, 2, 0, 1, 0, partial=2)
    assert describe(chosen, partial)[2:] == [
        f"collections kept of each repo: {BLOG}",
        "partial repos (chosen collections only): 2",
    ]
    assert as_fields(chosen, partial)["partial"] == 2
    stuck = describe(Scope(), ScopeProgress(None, 10, 5, 0, 0, 0))
    assert stuck[-1].startswith("no progress")
    assert as_fields(scope, progress)["seconds_left"] == 500.0
    begun = replace(progress, lately_s=15.0)
    assert begun.seconds_left == 12.5
    assert replace(begun, lately_s=0.1).seconds_left == pytest.approx(25 * 10 / 30)


def test_documented_figures_are_those_of_the_code() -> None:
    docs = Path(__file__).parents[4] / "docs"
    text = (docs / "explanation/scope.md").read_text()
    rows = re.findall(r"(?m)^\| ([\d,]+) (?:records|bytes|lookups) an? ", text)
    assert [float(number.replace(",", "")) for number in rows] == [
        module.RECORDS_PER_ACCOUNT,
        module.BYTES_PER_RECORD,
        module.RECORDS_PER_S,
        module.LOOKUPS_PER_S,
    ]
    assert f"holds {module.OWN_REPOS} repos" in text
    assert f"At most {module.MAX_PAGES} pages" in text


def test_explain_marks_a_lower_bound() -> None:
    counted = Counted(5, False, unanswered=("x",))
    lines = explain(estimate(counted, Basis(), Sources()))
    assert lines[0] == "accounts: at least 5"
    assert lines[-1] == "not counted, no reply or no such listing: x"
