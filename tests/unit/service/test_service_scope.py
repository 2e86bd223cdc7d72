"""The scope: what settings and the command line make of it, and what it would take."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

from crawler.hosts.discovery import add_configured
from crawler.settings import CrawlSettings
from network.errors import DidNotFoundError
from network.http.client import Fetcher
from network.http.policy import Policy
from network.server.listener import serving_in_thread
from protocol.identity.did_document import DidDocument, parse_did_document
from service import scope_estimate
from service.cli.app import app
from service.cli.verbs import scope as verb
from service.operator_errors import ConfigError
from service.runtime.config import Config
from service.scope_estimate import (
    Basis,
    Counted,
    count_accounts,
    estimate,
    read_basis,
    with_added,
)
from service.scope_report import as_fields, describe
from service.scoping import apply_settings
from storage.hosts.host_rows import put_host
from storage.repos.scope_rows import (
    Scope,
    ScopeKind,
    ScopeProgress,
    load_scope,
    set_scope,
)

Conn = psycopg.Connection[Any]
DEV = Policy(allow_loopback=True)
A, B = "did:plc:" + "a" * 24, "did:plc:" + "b" * 24
BLOG = "com.example.blog.entry"


def config(tmp_path: Path, **settings: Any) -> Config:
    return Config.read(home=tmp_path, dev_network=True, **settings)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "network"),
        ({"dids": (A,)}, "dids"),
        ({"dids": (A,), "scope": "follows"}, "follows"),
        ({"scope": "collection", "collections": (BLOG,)}, "collection"),
        ({"dids": (A,), "scope": "network"}, "network"),
        ({"keep": (BLOG,)}, "network"),
    ],
)
def test_settings_say_the_scope_at_a_start(
    conn: Conn, tmp_path: Path, settings: dict[str, Any], kind: str
) -> None:
    assert apply_settings(conn, config(tmp_path, **settings))
    found = load_scope(conn)
    assert found.kind == kind
    assert found.seeds == ((A,) if kind in ("dids", "follows") else ())
    assert found.collections == settings.get("collections", ())
    assert found.keep == settings.get("keep", ())


def test_what_a_command_set_stays_until_the_settings_change(
    conn: Conn, tmp_path: Path
) -> None:
    apply_settings(conn, config(tmp_path, dids=(A,)))
    set_scope(conn, ScopeKind.DIDS, seeds=[B])
    assert not apply_settings(conn, config(tmp_path, dids=(A,)))
    assert load_scope(conn).seeds == (B,)
    assert apply_settings(conn, config(tmp_path, dids=(A, B)))
    assert load_scope(conn).seeds == (A, B)


@pytest.mark.parametrize(
    "settings",
    [
        {"scope": "dids"},
        {"scope": "follows"},
        {"dids": (A,), "scope": "follows", "keep": (BLOG,)},
        {"scope": "collection", "collections": (BLOG,), "keep": ("a.b.c",)},
        {"scope": "collection"},
        {"collections": (BLOG,)},
        {"scope": "everything"},
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        config(tmp_path, **settings)


def test_names_on_the_command_line(tmp_path: Path) -> None:
    here = config(tmp_path)
    assert verb.parse(here, ScopeKind.DIDS, [A, B]).seeds == (A, B)
    assert verb.parse(here, ScopeKind.COLLECTION, [BLOG]).collections == (BLOG,)
    assert verb.parse(here, ScopeKind.NETWORK, []).whole
    for kind, names in (
        (ScopeKind.NETWORK, [A]),
        (ScopeKind.DIDS, []),
        (ScopeKind.FOLLOWS, ["no handle"]),
        (ScopeKind.COLLECTION, ["posts"]),
    ):
        with pytest.raises(ConfigError):
            verb.parse(here, kind, names)


def test_the_command(
    index_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("BIGWORLD_DATABASE_URL", index_db)
    run = CliRunner()

    def call(*arguments: str, **more: Any) -> str:
        result = run.invoke(app, ["scope", *arguments], **more)
        assert result.exception is None or more, result.output
        return result.output

    assert call().startswith("scope: network")
    assert "accounts: 2" in call("estimate", "dids", A, B)
    told = json.loads(call("estimate", "dids", A, B, "--json"))
    assert told["counted"]["accounts"] == 2
    assert call("set", "dids", A, input="n\n").endswith("Aborted!\n")
    assert call().startswith("scope: network")
    assert call("set", "dids", A, "--yes").startswith("dids it is; the crawl follows")
    assert "BIGWORLD_HOSTS to ask" in call("estimate", "network")
    kept = call("estimate", "dids", A, "--keep", BLOG)
    assert kept.endswith(f"at most: of each repo only {BLOG}\n")
    shown = json.loads(call("--json"))
    assert (shown["scope"], shown["seeds"], shown["total"]) == ("dids", [A], 1)


def page(name: str, entries: list[Any], size: int = 2) -> Any:
    async def answer(request: Request) -> Response:
        start = int(request.query_params.get("cursor") or 0)
        body: dict[str, Any] = {name: entries[start : start + size]}
        if start + size < len(entries):
            body["cursor"] = str(start + size)
        return JSONResponse(body)

    return answer


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
    routes = [Route(f"/xrpc/{nsid}", answer) for nsid, answer in answers.items()]
    with serving_in_thread(Starlette(routes=routes)) as url:
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
def count(host: str, tmp_path: Path) -> Callable[..., Counted]:
    def run(scope: Scope, **settings: Any) -> Counted:
        async def work() -> Counted:
            async with Fetcher(DEV) as fetcher:
                resolver: Any = Resolver(host)
                return await count_accounts(
                    scope, config(tmp_path, **settings), fetcher, resolver
                )

        return asyncio.run(work())

    return run


def test_hosts_are_asked_how_many(
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
    whole = Scope()
    assert count(whole, relays=(host,)) == Counted(60, largest=30)
    assert count(whole, hosts=(host,)) == Counted(7, largest=7)
    monkeypatch.setattr(scope_estimate, "_PAGES", 2)
    assert count(whole, hosts=(host,)) == Counted(4, complete=False, largest=4)


def test_a_host_that_a_relay_lists_too_is_counted_once(
    count: Callable[..., Counted],
) -> None:
    listed: list[dict[str, Any]] = []
    answers = {
        "com.atproto.sync.listHosts": page("hosts", listed),
        "com.atproto.sync.listRepos": page("repos", [{"did": n} for n in range(7)]),
    }
    routes = [Route(f"/xrpc/{nsid}", answer) for nsid, answer in answers.items()]
    with serving_in_thread(Starlette(routes=routes)) as url:
        port = url.rpartition(":")[2]
        listed += [{"hostname": f"LocalHost:{port}", "accountCount": 5}]
        found = count(Scope(), relays=(url,), hosts=(url,))
    assert found == Counted(7, largest=7)


def test_hosts_that_were_added_by_hand_are_asked_too(
    conn: Conn, tmp_path: Path
) -> None:
    settings = CrawlSettings(dev=True)
    [old, *_] = add_configured(
        conn,
        ["https://old.example.com", "http://127.0.0.1:7", "https://set.example.com"],
        ["https://relay.example.com"],
        settings,
    )
    put_host(conn, "other.example.com", "https://other.example.com", source="plc")
    conn.execute("UPDATE host SET state = 'banned' WHERE id = %s", (old,))
    found = with_added(conn, config(tmp_path, hosts=("https://set.example.com",)))
    assert found.hosts == ("https://set.example.com", "http://127.0.0.1:7")
    assert found.relays == ("https://relay.example.com",)


def test_the_slowest_part_takes_the_time(tmp_path: Path) -> None:
    basis = Basis(records_per_account=100.0, bytes_per_record=1_000.0)
    on_one = estimate(Counted(36_000), basis, config(tmp_path))
    assert (on_one.records, on_one.disk_bytes) == (3_600_000, 3_600_000_000)
    assert (on_one.hours, on_one.slowest) == (2.0, "requests to one host")
    assert on_one.over_cap
    many = Counted(180_000, largest=10)
    lookups = estimate(many, basis, config(tmp_path, account_cap=0))
    assert (lookups.hours, lookups.slowest) == (1.0, "identity look-ups")
    assert not lookups.over_cap
    mirrored = estimate(many, basis, config(tmp_path, plc_mirror=True))
    assert (mirrored.hours, mirrored.slowest) == (0.5, "reading records")
    lines = verb.explain(
        estimate(Counted(5, False, unanswered=("x",)), basis, config(tmp_path))
    )
    assert lines[0] == "accounts: at least 5"
    assert lines[-1] == "not counted, no answer or no such listing: x"


def test_a_large_index_is_its_own_measure(
    conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_basis(conn) == Basis()
    monkeypatch.setattr(scope_estimate, "_OWN_REPOS", 2)
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


PARTIAL_LINE = "partial, of chosen collections only: 2"


def test_progress_in_words() -> None:
    scope = Scope(ScopeKind.DIDS, (A,))
    lines = describe(scope, ScopeProgress(100, 90, 70, 5, 30, 2))
    assert lines == [
        f"scope: dids ({A})",
        "repos: 75 of 100 accounts; 30 fetched in the last ten minutes",
        "not to be had: 5",
        "to be removed: 2",
        "left: about 0.1 hours",
    ]
    chosen = Scope(ScopeKind.DIDS, (A,), keep=(BLOG,))
    lines = describe(chosen, ScopeProgress(2, 2, 2, 0, 1, 0, partial=2))
    assert lines[2:] == [f"kept of each: {BLOG}", PARTIAL_LINE]
    assert as_fields(chosen, ScopeProgress(2, 2, 2, 0, 1, 0, 2))["partial"] == 2
    stuck = describe(Scope(), ScopeProgress(None, 10, 5, 0, 0, 0))
    assert stuck[-1].startswith("nothing moves")
    fields = as_fields(scope, ScopeProgress(100, 90, 70, 5, 30, 2))
    assert fields["seconds_left"] == 500.0
    begun = ScopeProgress(100, 90, 70, 5, 30, 2, lately_s=15.0)
    assert begun.seconds_left == 12.5
    assert replace(begun, lately_s=0.1).seconds_left == pytest.approx(25 * 10 / 30)


def test_the_page_has_the_figures_of_the_code() -> None:
    text = (Path(__file__).parents[3] / "docs" / "scope.md").read_text()
    rows = re.findall(r"(?m)^\| ([\d,]+) (records|bytes|look-ups)", text)
    figures = [float(number.replace(",", "")) for number, _ in rows]
    assert figures == [
        scope_estimate.RECORDS_PER_ACCOUNT,
        scope_estimate.BYTES_PER_RECORD,
        scope_estimate.RECORDS_PER_S,
        scope_estimate.LOOKUPS_PER_S,
    ]
    assert f"holds {scope_estimate._OWN_REPOS} repos" in text
    assert f"at most {scope_estimate._PAGES} pages" in text
    assert {kind.value for kind in ScopeKind} == set(
        re.findall(r"(?m)^\| `(\w+)` \|", text)
    )
