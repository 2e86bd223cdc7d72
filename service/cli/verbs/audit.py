"""`bigworld audit` and `rebuild`: hold the index against what was signed, and make
anew what is only a copy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import psycopg
from rich.console import Console

from audit.auditor import ERROR, ask_all
from audit.repair import clear_repo
from audit.repo_audit import (
    RepoAudit,
    UnknownRepoError,
    describe_fault,
    list_synchronized,
    recount_stats,
)
from audit.row_audit import MOST_LINK_BYTES, audit_whole
from audit.samples import SOUND, UNSOUND
from indexer.search_sync import drain_outbox, queue_everything
from protocol.data.cid import cid_to_text
from search.engines.postgres import PostgresEngine
from service.cli.progress import Report
from service.operator_errors import ServiceError
from service.outgoing import make_fetcher
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing
from storage.postgres.pool import open_pool
from storage.records.interning import Interner

_PAGE = 1_000
_DRAIN_BATCH = 2_000


def audit(
    config: Config,
    dids: Sequence[str],
    *,
    counts: bool,
    repair: bool,
    as_json: bool,
    ask_hosts: bool = False,
) -> bool:
    """Audit these accounts, or all; tells whether everything was as it should be.

    `counts` also counts likes, replies, followers and so on anew. `ask_hosts` also
    holds each repo against its host's latest commit. `repair` has wrong repos fetched
    again and writes right counts.
    """
    console = Console(stderr=as_json)
    all_well = True
    with (
        Report(console) as report,
        open_existing(config, INDEX, start=True) as url,
        open_pool(url, max=4) as pool,
        open_pool(url, max=2) as names,
        psycopg.connect(url) as conn,
    ):
        wanted = list(dids) or list(_everyone(conn))
        done = partial = 0
        interner = Interner(names)
        # Reading every edge for every repo would never end; for a few it may be done.
        most = None if dids else MOST_LINK_BYTES
        for found in _audit_each(conn, interner, wanted, most):
            done += 1
            partial += found.keeps is not None
            if as_json:
                print(json.dumps(_describe(found)))
            elif not found.ok:
                report.say(f"{found.did} rev {found.rev}: {describe_fault(found)}")
            if not found.ok:
                all_well = False
                if repair:
                    conn.commit()
                    clear_repo(conn, interner, found.did, datetime.now(UTC), ERROR)
            report.count("audited", done, len(wanted))
        if ask_hosts:
            conn.commit()
            verdicts: Counter[str] = Counter()
            findings = ask_all(
                lambda: make_fetcher(config), pool, interner, wanted, repair=repair
            )
            for finding in findings:
                all_well = all_well and finding.verdict not in UNSOUND
                verdicts[finding.verdict] += 1
                report.count("asked", verdicts.total(), len(wanted))
                if as_json:
                    print(json.dumps(asdict(finding)))
                elif finding.verdict not in SOUND:
                    detail = f" ({finding.detail})" if finding.detail else ""
                    report.say(f"{finding.did}: {finding.verdict}{detail}")
            if not as_json:
                told = (f"{number} {verdict}" for verdict, number in verdicts.items())
                report.say(f"asked of their hosts: {', '.join(told) or 'none'}")
        if counts:
            conn.commit()
            audited = recount_stats(conn, repair=repair)
            all_well = all_well and audited.ok
            for table, number in audited.wrong.items():
                report.say(f"{table}: {number} wrong rows")
        if not as_json:
            verdict = "nothing wrong found" if partial else "all as signed"
            verdict = verdict if all_well else "NOT all as signed"
            report.say(f"{done} repos audited, {verdict}")
            if partial:
                report.say(
                    f"{partial} of them are partial: of those only chosen collections "
                    "are held, which --hosts proves and nothing else"
                )
    return all_well


def rebuild_search(config: Config) -> int:
    """Make the whole search index anew from the rows; returns how many entries."""
    with (
        Report(Console()) as report,
        open_existing(config, INDEX, start=True) as url,
        open_pool(url, max=2) as pool,
        pool.connection() as conn,
    ):
        engine = PostgresEngine(pool)
        queue_everything(conn, engine)
        done = 0
        # Each account brings its records into the queue when its turn comes.
        while left := _waiting(conn):
            drained = drain_outbox(conn, engine, _DRAIN_BATCH)
            done += drained
            report.count("entries", done, done + left - drained)
        return done


def rebuild_counts(config: Config) -> dict[str, int]:
    """Count everything anew; returns table -> rows that were wrong."""
    with open_existing(config, INDEX, start=True) as url, psycopg.connect(url) as conn:
        return recount_stats(conn, repair=True).wrong


def _everyone(conn: psycopg.Connection[Any]) -> Iterator[str]:
    after = ""
    while page := list_synchronized(conn, after=after, limit=_PAGE):
        yield from page
        after = page[-1]
    conn.commit()


def _audit_each(
    conn: psycopg.Connection[Any],
    interner: Interner,
    dids: Iterable[str],
    most_link_bytes: int | None,
) -> Iterator[RepoAudit]:
    for did in dids:
        try:
            yield audit_whole(conn, interner, did, most_link_bytes=most_link_bytes)
        except UnknownRepoError:
            raise ServiceError(f"{did} is not in the index") from None


def _describe(found: RepoAudit) -> dict[str, Any]:
    return {
        "did": found.did,
        "rev": found.rev,
        "ok": found.ok,
        "fault": describe_fault(found),
        "partial": None if found.keeps is None else sorted(found.keeps),
        "root": cid_to_text(found.root) if found.root else None,
        "signed": cid_to_text(found.signed) if found.signed else None,
        "records": found.records,
        "dropped": found.dropped,
    }


def _waiting(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("SELECT count(*) FROM search_outbox").fetchone()
    conn.commit()
    assert row is not None
    return int(row[0])
