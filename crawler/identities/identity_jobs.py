"""A worker for jobs that resolve DIDs: leases, fair slots, retries."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from crawler.backoff import full_jitter
from crawler.database import Database, StoppedError
from crawler.identities.accounts import EARLY_REFRESHES
from crawler.identities.fair_slots import FairSlots, Slot
from crawler.identities.lookups import LookedUp, look_up
from crawler.identities.network_clients import NetworkClients
from crawler.live.waiting import wait_first
from crawler.settings import CrawlSettings
from indexer.index_writer import IndexWriter
from protocol.events.event import AccountEvent
from protocol.syntax.did import Did
from storage import jobs
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.repos import repo_rows

T = TypeVar("T")

_BATCH: Final = 100
# A host with so many jobs waiting here has the others left in the table.
_LANE: Final = 16
# As long as DNS and a web server may take until they count as unreachable.
_PATIENCE: Final = 10.0
_LEASE: Final = 300.0
_RENEWED_EVERY: Final = 60.0
_IDLE: Final = 1.0
_PAUSE: Final = 0.05
_DELETED: Final = "deleted"
_FIRST_RETRY: Final = 2.0
_LONGEST_RETRY: Final = 14_400.0
# Some days of the directory being away.
_MAX_TRIES_UNKNOWN: Final = 30


class IdentityJobs(ABC):
    """Works off the jobs of one kind. `run` until stopped, or `run_once`."""

    kind: str
    # Claims, which skip the jobs of slow hosts, take a fifth of a connection.
    pauses_per_claim = 4.0

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        index: IndexWriter,
        clients: NetworkClients,
    ) -> None:
        self._settings = settings
        self._database = database
        self._index = index
        self._clients = clients
        self._resolver = clients.resolver
        self._waiting: dict[Did, jobs.ClaimedJob] = {}
        self._under_way: dict[asyncio.Task[None], jobs.ClaimedJob] = {}
        self._renewed_at = 0.0
        self._done = 0
        self._error: BaseException | None = None
        self._wake = asyncio.Event()
        self._pools = self._make_slots()

    @abstractmethod
    def _make_slots(self) -> list[FairSlots]: ...

    def _slots_of(self, did: Did) -> FairSlots:
        return self._pools[0]

    @abstractmethod
    async def _do(self, job: jobs.ClaimedJob) -> bool:
        """Do one job; return False if it was put back to be done later."""

    def wake(self) -> None:
        """Look for jobs now. Call on the event loop."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`."""
        with suppress(StoppedError):
            await self._work(stop, for_ever=True)

    async def run_once(self, *, seconds: float) -> int:
        """Work until no job is due, but begin none after `seconds`; return how many
        were done or tried."""
        stop = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(seconds, stop.set)
        before = self._done
        try:
            await self._work(stop, for_ever=False)
        finally:
            timer.cancel()
        return self._done - before

    # claiming

    async def _work(self, stop: asyncio.Event, *, for_ever: bool) -> None:
        clock = asyncio.get_running_loop().time
        more = True
        try:
            while not stop.is_set() and (more or self._waiting or self._under_way):
                self._wake.clear()
                if self._error is not None:
                    raise self._error
                begun = clock()
                await self._renew(begun)
                full = [h for h, n in self._lanes().items() if n >= _LANE]
                took = await self._claim(full) if more else 0
                if took == _BATCH:
                    continue
                more = for_ever or (more and bool(full))
                if not (more or self._waiting or self._under_way):
                    break
                pause = max(_PAUSE, self.pauses_per_claim * (clock() - begun))
                await wait_first(self._wake, stop, seconds=_IDLE)
                if more:
                    await wait_first(stop, seconds=pause)
            await self._give_back()
            await asyncio.gather(*self._under_way)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _lanes(self) -> Counter[int]:
        lanes: Counter[int] = Counter()
        for slots in self._pools:
            lanes.update(slots.waiting())
        return lanes

    async def _claim(self, full: Sequence[int]) -> int:
        claimed: Sequence[jobs.ClaimedJob] = await self._run(
            lambda conn: jobs.claim_jobs(
                conn, self.kind, limit=_BATCH, lease_s=_LEASE, besides=full
            )
        )
        if claimed:
            crashpoint(Crashpoint.IDENTITY_CLAIMED)
        for job in claimed:
            did = Did(job.key)
            self._waiting[did] = job
            self._slots_of(did).wait(list(job.named_by) or [job.host], did)
        self._start()
        return len(claimed)

    def _start(self) -> None:
        for slots in self._pools:
            while (slot := slots.take()) is not None:
                job = self._waiting.pop(slot.did)
                task = asyncio.create_task(self._finish(slots, slot, job))
                self._under_way[task] = job
                task.add_done_callback(self._note_end)

    async def _finish(self, slots: FairSlots, slot: Slot, job: jobs.ClaimedJob) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            if await self._do(job):
                again_in = self._resolver.refresh_in(
                    Did(job.key), insist=EARLY_REFRESHES
                )
                await self._run(
                    lambda conn: jobs.finish_jobs(conn, [job.id], again_in=again_in)
                )
            self._done += 1
        finally:
            slots.give_back(slot, slow=clock() - began >= _PATIENCE)
        self._start()
        if slot.host not in self._lanes():
            self._wake.set()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()
        if self._error is not None or not (self._waiting or self._under_way):
            self._wake.set()

    async def _renew(self, now: float) -> None:
        """Keep the leases of all jobs that are held."""
        if now - self._renewed_at < _RENEWED_EVERY:
            return
        self._renewed_at = now
        held = [*self._waiting.values(), *self._under_way.values()]
        if held:
            ids = [job.id for job in held]
            await self._run(lambda conn: jobs.renew_jobs(conn, ids, lease_s=_LEASE))

    async def _give_back(self) -> None:
        """Give back the jobs that were not begun."""
        waiting = [job.id for job in self._waiting.values()]
        self._waiting.clear()
        self._pools = self._make_slots()
        if waiting:
            await self._run(lambda conn: jobs.give_back_jobs(conn, waiting))

    # what jobs have in common

    async def _resolve(
        self, job: jobs.ClaimedJob, *, mirrored: bool = False
    ) -> LookedUp | None:
        """Resolve the DID of a job; None if it failed and is to be retried."""
        did = Did(job.key)
        looked_up = await look_up(
            self._resolver,
            did,
            refresh=job.doubted or mirrored,
            insist=EARLY_REFRESHES if job.doubted else 0,
            mirrored=mirrored and not job.doubted,
        )
        if looked_up.failed and not await self._may_forget(job):
            await self._retry(job, "the DID could not be resolved")
            return None
        return looked_up

    async def _may_forget(self, job: jobs.ClaimedJob) -> bool:
        """Return True if a job that failed serves no account of ours."""
        return job.tries >= _MAX_TRIES_UNKNOWN and not await self._is_known(job)

    async def _is_known(self, job: jobs.ClaimedJob) -> bool:
        return await self._run(lambda conn: bool(repo_rows.find_repos(conn, [job.key])))

    def _refresh_in(self, job: jobs.ClaimedJob) -> float:
        """Return for how long `_resolve` gives a document older than the doubt."""
        if not job.doubted:
            return 0.0
        return self._resolver.refresh_in(Did(job.key), insist=EARLY_REFRESHES)

    async def _postpone(self, job: jobs.ClaimedJob, wait: float) -> bool:
        """Put a job back that memory answered; return True if it did not."""
        if wait > 0:
            await self._run(lambda conn: jobs.postpone_job(conn, job.id, wait=wait))
        return wait <= 0

    async def _apply_gone(self, did: Did) -> None:
        event = AccountEvent(did, active=False, status=_DELETED)
        await asyncio.to_thread(
            self._database.persist, lambda: self._index.apply([event], {})
        )

    async def _retry(self, job: jobs.ClaimedJob, why: str) -> None:
        wait = full_jitter(job.tries + 1, base=_FIRST_RETRY, cap=_LONGEST_RETRY)
        await self._run(lambda conn: jobs.retry_job(conn, job.id, why, wait=wait))

    async def _run(self, work: Callable[[Conn], T]) -> T:
        return await asyncio.to_thread(self._database.run, work)
