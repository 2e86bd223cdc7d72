"""Our responses and those of the reference AppView, on one network.

Needs `tests/interop/reference/install`; see docs/explanation/reference-servers.md. The
report goes to the file that REFERENCE_REPORT names.
"""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from judge import Server, Verdict, judge
from judged_accounts import play, play_on
from judged_differences import REQUIRED, rules
from judged_network import Beside
from judged_questions import questions, repo_questions
from judged_stage import Account, Stage
from judged_states import skeleton
from reference_network import get, is_installed, own_process, until

from protocol.data.cid import cid_for, cid_to_text

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]

PATIENCE = 240.0
"""Maximum seconds of indexing, on a busy machine."""


@dataclass
class World:
    """Both indexers over the same accounts."""

    stage: Stage
    ours: Server
    theirs: Server


@pytest.fixture(scope="module")
def world(
    databases: Any, tmp_path_factory: pytest.TempPathFactory, free_base: int
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("answers")
    ours, theirs = databases.make("index"), databases.make(None)
    url, did = f"http://localhost:{free_base}", f"did:web:localhost%3A{free_base}"
    with Beside(free_base, theirs) as servers:
        settings = {
            "BIGWORLD_HOME": str(folder / "home"),
            "BIGWORLD_PORT_BASE": str(free_base),
            "BIGWORLD_DEV_NETWORK": "true",
            "BIGWORLD_PLC_URL": servers.endpoints["plc"],
            "BIGWORLD_HOSTS": ",".join(servers.endpoints["pds"]),
            "BIGWORLD_HOST_REQUESTS_PER_S": "200",
            "BIGWORLD_CLIENT_REQUESTS_PER_S": "10000",
            "BIGWORLD_CLIENT_BURST": "10000",
            "DATABASE_URL": ours,
        }
        first, second = servers.endpoints["pds"]
        stage = Stage((first, second), lambda: servers.ask(settle=True))
        stage.refs["generator"] = {"uri": servers.endpoints["generator"], "cid": ""}
        with own_process("serve", settings, folder / "serve.log"):
            play(stage)
            with own_process("crawl", settings, folder / "crawl.log"):
                until(lambda: _is_equal(stage, ours), "the backfill", PATIENCE)
                play_on(stage)
                stage.settle()
                until(lambda: _is_equal(stage, ours), "the live commits", PATIENCE)
                feed = {"uri": stage.refs["feed one"]["uri"], "body": skeleton(stage)}
                servers.ask(feed=feed)
                until(lambda: get(url, "_health"), "the provider", PATIENCE)
                dids = [account.did for account in stage.accounts.values()]
                keys = servers.ask(keys=dids)
                appview = servers.endpoints["appview"]
                yield World(
                    stage,
                    Server(url, did, keys),
                    Server(appview["url"], appview["did"], keys),
                )
    databases.drop(ours)
    databases.drop(theirs)


def _is_equal(stage: Stage, database: str) -> bool:
    """Return True if our index holds the newest commit and state of every account."""
    with psycopg.connect(database) as conn:
        rows = conn.execute(
            "SELECT a.did, r.commit, r.state, a.upstream_status, a.handle"
            " FROM actor a JOIN repo r ON r.actor = a.id"
        ).fetchall()
    held = {row[0]: row[1:] for row in rows}
    for account in stage.accounts.values():
        commit, state, status, handle = held.get(account.did, (None, "", "", ""))
        head = _head(account)
        if head is None:
            if status == "active" or not status:
                return False
        elif (
            commit is None
            or cid_to_text(cid_for(commit)) != head
            or (state, status, handle) != ("synchronized", "active", account.handle)
        ):
            return False
    return True


def _head(account: Account) -> str | None:
    """Return the CID of the newest commit, None for an inactive account."""
    try:
        answer = get(
            account.server, "com.atproto.sync.getLatestCommit", did=account.did
        )
    except urllib.error.HTTPError as error:
        with error:
            return None
    cid: str = answer["cid"]
    return cid


def test_responses_equal_the_reference(world: World, long: bool) -> None:
    verdict = Verdict(rules(world.stage), REQUIRED)
    # By default a sample: as many questions of each method, by different viewers.
    step = 1 if long else 16
    asked = list(questions(world.stage, whole=long))[::step]
    judge(world.ours, world.theirs, asked, verdict)
    for url in world.stage.servers:
        asked = list(repo_questions(world.stage, url))[::step]
        judge(world.ours, Server(url, "", {}), asked, verdict)
    report = world.stage.name(verdict.text())
    if "REFERENCE_REPORT" in os.environ:
        Path(os.environ["REFERENCE_REPORT"]).write_text(report)
    assert not verdict.differences, report[:20_000]
