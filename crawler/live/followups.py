"""Work that makes up for dropped frames, stored before the cursor passes them."""

from __future__ import annotations

from crawler.live.gate_result import GateResult
from crawler.scope.admission import IDENTITY_JOB, LOOKUP_JOB
from storage import jobs
from storage.hosts import host_rows
from storage.postgres.pool import Conn
from storage.repos import quarantine, repo_rows
from storage.repos.account_status import asking_time


def queue_followups(conn: Conn, batch: GateResult, *, cooldown: float) -> None:
    """Queue the lookups, refreshes and resyncs of a batch. Does not commit; call it
    before the cursor passes the frames."""
    by_wait: dict[float, list[str]] = {}
    for did, wait in batch.identities_to_refresh.items():
        by_wait.setdefault(round(wait), []).append(did)
    for wait, dids in sorted(by_wait.items()):
        jobs.put_jobs(conn, IDENTITY_JOB, dids, wait=wait, doubt=True)
    now = asking_time(conn).timestamp() if batch.lookups else 0.0
    named: dict[tuple[float, bool], dict[str, dict[int, jobs.Naming]]] = {}
    for did, lookup in batch.lookups.items():
        group = named.setdefault((round(lookup.wait), lookup.refresh), {})
        group[did] = {h: how._replace(at=now) for h, how in lookup.hosts.items()}
    for (wait, refresh), group in sorted(named.items()):
        jobs.put_named_jobs(conn, LOOKUP_JOB, group, wait=wait, doubt=refresh)
    for frame in batch.quarantined:
        quarantine.put_frame(conn, frame.host, frame.seq, frame.frame, frame.error)
    for host in sorted(batch.outdated):
        host_rows.request_listing(conn, host, gap=True)
    if batch.to_resync:
        repo_rows.mark_desynchronized(
            conn, sorted(batch.to_resync), "an event could not be proven"
        )
    if batch.throttled:
        repo_rows.mark_desynchronized(
            conn,
            sorted(batch.throttled),
            "it writes too many commits at once",
            wait=cooldown,
        )
