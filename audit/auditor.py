"""The continuous audit: random repos, checked against their signatures and hosts.

A step is bounded in repos, records of a repo and time, at any size of the index. Every
finding is counted. A wrong repo is fetched again once its host answers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from audit.repair import clear_repo
from audit.repo_audit import (
    RepoAudit,
    RepoTooLargeError,
    UnknownRepoError,
    compare_parts,
    describe_fault,
)
from audit.row_audit import MOST_LINK_BYTES, audit_whole
from audit.samples import Verdict, draw_repos, note_sample
from crawler.identities.network_clients import OpenClients
from crawler.methods import GET_LATEST_COMMIT
from crawler.repos.sparse import SparseUnavailableError, list_collections
from network.errors import NetworkError, XrpcError
from network.http.client import Fetcher
from network.xrpc.client import XrpcClient
from protocol.data.cid import cid_from_text
from protocol.errors import ProtocolError
from protocol.syntax.did import Did
from protocol.syntax.tid import parse_tid, tid_time_us
from storage.postgres.pool import Pool
from storage.records.interning import Interner
from storage.repos.repo_rows import mark_desynchronized
from storage.states import REPO_SYNCHRONIZED

log = structlog.get_logger(__name__)

MOST_RECORDS: Final = 500_000
STEP_S: Final = 40.0
# A commit this recent may still be on its way to us.
LAG_S: Final = 60.0
ERROR: Final = "the audit found it wrong"
_MAX_ANSWER_BYTES: Final = 10_000
_AT_ONCE: Final = 4
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of the check of one repo."""

    did: str
    verdict: Verdict
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    rev: str
    commit: bytes


class Auditor:
    """Checks of single repos. With `repair`, wrong ones are fetched again."""

    def __init__(
        self,
        pool: Pool,
        interner: Interner,
        fetcher: Fetcher,
        *,
        repair: bool,
        most_records: int | None = MOST_RECORDS,
    ) -> None:
        self._pool = pool
        self._interner = interner
        self._fetcher = fetcher
        self._repair = repair
        self._most_records = most_records

    async def check(self, did: str) -> Finding:
        """Check one repo against its signature, then against its host."""
        try:
            host = await asyncio.to_thread(self._host_of, did)
            if host is None:
                return Finding(did, Verdict.WAITING)
            ours = await asyncio.to_thread(self._audit, did)
        except UnknownRepoError:
            return Finding(did, Verdict.WAITING)
        except RepoTooLargeError:
            return Finding(did, Verdict.TOO_LARGE)
        answer: _Head | Finding
        answer = (
            await self._ask(did, host)
            if host
            else Finding(did, Verdict.UNREACHABLE, "no host is known")
        )
        if not ours.ok:
            # Keep wrong rows while the host offers no better ones.
            if self._repair and isinstance(answer, _Head):
                await asyncio.to_thread(self._fetch_anew, did)
            return Finding(did, Verdict.WRONG, describe_fault(ours))
        if isinstance(answer, Finding):
            return answer
        finding = _compare(did, ours, answer)
        if finding.verdict in (Verdict.BEHIND, Verdict.FORKED, Verdict.AHEAD):
            return await self._recheck(finding, ours, answer)
        if ours.keeps is not None:
            return await self._prove(ours, ours.keeps, host)
        return finding

    async def _prove(
        self, ours: RepoAudit, keeps: frozenset[str], host: str
    ) -> Finding:
        """Check a partial repo against its host's nodes of the same tree."""
        did = Did(ours.did)
        client = XrpcClient(self._fetcher, host)
        try:
            listed = await list_collections(client, did, ours.data, keeps)
        except SparseUnavailableError as error:
            return Finding(did, Verdict.UNPROVEN, str(error))
        except XrpcError as error:
            return Finding(did, Verdict.REFUSED, error.name)
        except NetworkError as error:
            return Finding(did, Verdict.UNREACHABLE, str(error))
        equal = await asyncio.to_thread(self._compare_parts, ours, listed)
        if equal is None:
            return Finding(did, Verdict.UNPROVEN, "it changed during the check")
        if equal:
            return Finding(did, Verdict.PARTIAL)
        if self._repair:
            await asyncio.to_thread(self._fetch_anew, did)
        return Finding(did, Verdict.WRONG, "the rows differ from the signed tree")

    async def _recheck(
        self, finding: Finding, ours: RepoAudit, answer: _Head
    ) -> Finding:
        """Ignore a difference if a commit came during the check; repair it
        otherwise."""
        now_here = await asyncio.to_thread(self._head_of, finding.did)
        if now_here is not None and now_here.rev != ours.rev:
            return Finding(finding.did, Verdict.LAGGING, "it changed during the check")
        if self._repair:
            if finding.verdict is Verdict.FORKED:
                await asyncio.to_thread(self._fetch_anew, finding.did)
            elif finding.verdict is Verdict.BEHIND:
                await asyncio.to_thread(self._fetch, finding.did)
        return finding

    async def _ask(self, did: str, host: str) -> _Head | Finding:
        client = XrpcClient(self._fetcher, host)
        try:
            answer = await client.query(
                GET_LATEST_COMMIT, {"did": did}, max_bytes=_MAX_ANSWER_BYTES
            )
            return _Head(parse_tid(answer["rev"]), cid_from_text(answer["cid"]))
        except XrpcError as error:
            refused = 400 <= error.status < 500 and error.status != 429
            verdict = Verdict.REFUSED if refused else Verdict.UNREACHABLE
            return Finding(did, verdict, error.name)
        except NetworkError as error:
            return Finding(did, Verdict.UNREACHABLE, str(error))
        except (ProtocolError, KeyError, TypeError):
            return Finding(did, Verdict.UNREACHABLE, "invalid response")

    # The methods below run in threads, each with its own connection.

    def _host_of(self, did: str) -> str | None:
        """Return the host's URL of a synchronized repo; empty if it has no host."""
        with self._pool.connection() as conn:
            row = conn.execute(
                """
                SELECT coalesce(host.url, '') FROM actor
                JOIN repo ON repo.actor = actor.id
                LEFT JOIN host ON host.id = repo.host
                WHERE did = %s AND repo.state = %s
                """,
                (did, REPO_SYNCHRONIZED),
            ).fetchone()
        return None if row is None else str(row[0])

    def _head_of(self, did: str) -> _Head | None:
        with self._pool.connection() as conn:
            row = conn.execute(
                "SELECT rev, commit FROM repo JOIN actor ON actor.id = repo.actor"
                " WHERE did = %s AND rev IS NOT NULL",
                (did,),
            ).fetchone()
        return None if row is None else _Head(row[0], bytes(row[1]))

    def _audit(self, did: str) -> RepoAudit:
        with self._pool.connection() as conn:
            return audit_whole(
                conn,
                self._interner,
                did,
                most_records=self._most_records,
                most_link_bytes=MOST_LINK_BYTES,
            )

    def _compare_parts(
        self, ours: RepoAudit, listed: Sequence[tuple[bytes, bytes]]
    ) -> bool | None:
        with self._pool.connection() as conn:
            return compare_parts(conn, ours.did, ours.rev, listed)

    def _fetch(self, did: str) -> None:
        with self._pool.connection() as conn:
            mark_desynchronized(conn, [did], ERROR)

    def _fetch_anew(self, did: str) -> None:
        with self._pool.connection() as conn:
            clear_repo(conn, self._interner, did, datetime.now(UTC), ERROR)


def _compare(did: str, ours: RepoAudit, host: _Head) -> Finding:
    if host.rev == ours.rev:
        same = host.commit == ours.commit
        return Finding(did, Verdict.EQUAL if same else Verdict.FORKED)
    if host.rev < ours.rev:
        return Finding(did, Verdict.AHEAD, f"{ours.rev} here, {host.rev} there")
    age = time.time() - tid_time_us(parse_tid(host.rev)) / 1e6
    verdict = Verdict.LAGGING if age <= LAG_S else Verdict.BEHIND
    return Finding(did, verdict, f"{ours.rev} here, {host.rev} there")


def check_all(
    open_fetcher: Callable[[], Fetcher],
    pool: Pool,
    interner: Interner,
    dids: Sequence[str],
    *,
    repair: bool,
) -> Iterator[Finding]:
    """Check each repo against its host, a hundred at a time."""

    async def some(page: Sequence[str]) -> list[Finding]:
        slots = asyncio.Semaphore(_AT_ONCE)
        async with open_fetcher() as fetcher:
            auditor = Auditor(pool, interner, fetcher, repair=repair, most_records=None)

            async def check(did: str) -> Finding:
                async with slots:
                    return await auditor.check(did)

            return await asyncio.gather(*map(check, page))

    for start in range(0, len(dids), _PAGE):
        yield from asyncio.run(some(dids[start : start + _PAGE]))


def audit_step(
    pool: Pool, interner: Interner, open_clients: OpenClients, *, per_run: float
) -> Mapping[Verdict, int]:
    """Run one step of the continuous audit: `per_run` repos on average."""
    count = int(per_run) + (random.random() < per_run % 1)
    with pool.connection() as conn:
        drawn = draw_repos(conn, count)
    if not drawn:
        return {}
    return asyncio.run(_step(pool, interner, open_clients, drawn))


async def _step(
    pool: Pool,
    interner: Interner,
    open_clients: OpenClients,
    drawn: list[tuple[int, str]],
) -> Mapping[Verdict, int]:
    deadline = time.monotonic() + STEP_S
    found: Counter[Verdict] = Counter()
    slots = asyncio.Semaphore(_AT_ONCE)

    async with open_clients() as clients:
        auditor = Auditor(pool, interner, clients.fetcher, repair=True)

        async def check(actor: int, did: str) -> None:
            async with slots:
                # The skipped rest was drawn at random too, so nothing is skewed.
                if time.monotonic() > deadline:
                    return
                finding = await auditor.check(did)
                await asyncio.to_thread(_note, pool, actor, finding)
                found[finding.verdict] += 1

        await asyncio.gather(*(check(actor, did) for actor, did in drawn))
    return found


def _note(pool: Pool, actor: int, finding: Finding) -> None:
    if finding.verdict in (Verdict.WRONG, Verdict.FORKED):
        log.error("audit_failed", did=finding.did, detail=finding.detail)
    with pool.connection() as conn:
        note_sample(conn, actor, finding.verdict, finding.detail)
