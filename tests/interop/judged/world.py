"""Both indexers over the same accounts, started and filled."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from reference_network import get, own_process, until

from judged.accounts import play, play_on, settle_in
from judged.labels import issue, signed
from judged.network import Beside
from judged.private import early_acts, late_acts
from judged.question import Question, Server
from judged.stage import Account, Stage
from judged.states import skeleton
from protocol.data.cid import cid_for, cid_to_text

PATIENCE = 240.0
"""Maximum seconds of indexing, on a busy machine."""

Replies = list[tuple[Question, tuple[int, Any], tuple[int, Any]]]


@dataclass
class World:
    """Both indexers, the servers, and the replies to what both were told."""

    stage: Stage
    ours: Server
    theirs: Server
    told: Replies
    endpoints: dict[str, Any]
    did: str
    """Our DID."""
    records: Path
    """All our responses, one line of JSON each."""
    ours_database: str
    theirs_database: str


@contextmanager
def both_indexers(databases: Any, folder: Path, base: int) -> Iterator[World]:
    """Run the reference servers and ours until the block ends."""
    ours, theirs = databases.make("index"), databases.make(None)
    kept = databases.make("pds")
    own = f"http://localhost:{base + 2}"
    url, did = f"http://localhost:{base}", f"did:web:localhost%3A{base}"
    records = folder / "responses.jsonl"
    with Beside(base, theirs) as servers, records.open("w") as record:
        first, second = servers.endpoints["pds"]
        stage = Stage((first, second), lambda: servers.ask(settle=True))
        settle_in(stage)
        settings = {
            "BIGWORLD_HOME": str(folder / "home"),
            "BIGWORLD_PORT_BASE": str(base),
            "BIGWORLD_DEV_NETWORK": "true",
            "BIGWORLD_PLC_URL": servers.endpoints["plc"],
            "BIGWORLD_HOSTS": ",".join([*servers.endpoints["pds"], own]),
            "BIGWORLD_HOST_REQUESTS_PER_S": "200",
            "BIGWORLD_CLIENT_REQUESTS_PER_S": "10000",
            "BIGWORLD_CLIENT_BURST": "10000",
            "BIGWORLD_TRUSTED_VERIFIERS": stage.did("quinn"),
            "DATABASE_URL": ours,
        }
        stage.refs["generator"] = {"uri": servers.endpoints["generator"], "cid": ""}
        appview = servers.endpoints["appview"]
        one, other = Server(url, did, {}), Server(appview["url"], appview["did"], {})
        one.record = record
        told: Replies = []

        def tell(acts: Iterable[Question]) -> None:
            dids = [account.did for account in stage.accounts.values()]
            for server in (one, other):
                server.add_keys(servers.ask(keys=dids))
            for act in acts:
                told.append((act, one.ask(act), other.ask(act)))
                stage.settle()

        pds = settings | {"DATABASE_URL": kept}
        with (
            own_process("serve", settings, folder / "serve.log"),
            own_process("pds a", pds, folder / "pds.log"),
        ):
            until(lambda: get(own, "_health"), "our PDS", PATIENCE)
            play(stage)
            servers.ask(verifier=stage.did("quinn"))
            with own_process("crawl", settings, folder / "crawl.log"):
                until(lambda: _is_equal(stage, ours), "the backfill", PATIENCE)
                until(lambda: get(url, "_health"), "the provider", PATIENCE)
                issue(stage, settings)
                labels = until(lambda: signed(url, stage), "the labels", PATIENCE)
                servers.ask(labels=labels)
                tell(early_acts(stage))
                play_on(stage)
                stage.settle()
                until(lambda: _is_equal(stage, ours), "the live commits", PATIENCE)
                feed = {"uri": stage.refs["feed one"]["uri"], "body": skeleton(stage)}
                servers.ask(feed=feed)
                tell(late_acts(stage))
                yield World(
                    stage,
                    one,
                    other,
                    told,
                    servers.endpoints | {"own": own},
                    did,
                    records,
                    ours,
                    theirs,
                )
                one.close()
                other.close()
    databases.drop(ours)
    databases.drop(theirs)
    databases.drop(kept)


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
