"""Reading DID documents anew and checking handles, as jobs that survive a crash."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from crawler.backoff import full_jitter
from crawler.database import Database, StoppedError
from crawler.identities.accounts import EARLY_LOOKS, Account
from crawler.identities.lookups import look_up
from crawler.identities.network_clients import Outside
from crawler.identities.turns import Turn, Turns
from crawler.live.rounds import LookedUp
from crawler.live.waiting import wait_first
from crawler.scope.admission import (
    IDENTITY_JOB,
    Admission,
    Placement,
    place_repos,
)
from crawler.settings import CrawlSettings
from crawler.sink import Sink
from network.errors import NetworkError
from protocol.events.event import AccountEvent
from protocol.syntax.did import Did
from storage import jobs
from storage.hosts import host_relays, host_rows
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn
from storage.repos import identities, repo_rows

log = logging.getLogger(__name__)

_BATCH: Final = 100
_AT_ONCE: Final = 128
# Servers that never answer hold these for half a minute each: many hosts must do that
# before others notice. One that answers has ten accounts a second looked at by them.
_PER_HOST: Final = 4
# What takes so long has its host wait behind those that are quicker: as long as a DNS
# server and a web server may keep us until we know that they do not answer.
_PATIENCE: Final = 10.0
# With so many waiting, the other jobs of a host stay where they are.
_LANE: Final = 16
_LEASE: Final = 300.0
_RENEWED_EVERY: Final = 60.0
_MINUTE: Final = 60.0
# Turns come twice as fast as they must: minutes are missed, and some are for nothing.
_AHEAD: Final = 2.0
# What waits for longer waits for servers that do not answer, and keeps no turn back.
_HELD_UP: Final = 600.0
_IDLE: Final = 1.0
_PAUSE: Final = 0.05
# Passing over what waits for slow hosts takes at most a fifth of a connection.
_PAUSES_PER_CLAIM: Final = 4.0
_DELETED: Final = "deleted"
# A domain that cannot be asked takes no good handle away, unless that was tried
# several times and goes on for a day. What is proven counts at once.
_FAILURES_BEFORE_DOUBT: Final = 3
_SECONDS_BEFORE_DOUBT: Final = 86_400.0
_FIRST_RETRY: Final = 2.0
_LONGEST_RETRY: Final = 14_400.0
# Some days. Then a newcomer whom the directory says nothing of is forgotten.
_TRIES_OF_STRANGERS: Final = 30


class IdentityRefresh:
    """Works off the identity jobs. `on_document` hears of every document read."""

    def __init__(
        self,
        settings: CrawlSettings,
        database: Database,
        sink: Sink,
        outside: Outside,
    ) -> None:
        self.on_document: Callable[[LookedUp], None] = lambda _: None
        self._settings = settings
        self._database = database
        self._sink = sink
        self._resolver = outside.resolver
        self._admission = Admission(settings)
        self._door = asyncio.Lock()
        self._turns = Turns(_AT_ONCE, _PER_HOST)
        self._waiting: dict[Did, jobs.ClaimedJob] = {}
        self._under_way: dict[asyncio.Task[None], jobs.ClaimedJob] = {}
        self._renewed_at = 0.0
        self._done = 0
        self._error: BaseException | None = None
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is work. Call on the event loop."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`."""
        with suppress(StoppedError):
            await self._work(stop, for_ever=True)

    async def run_once(self, *, seconds: float) -> int:
        """Work until nothing is due, or for so many seconds and until what is under
        way then is done; return how many jobs were done or tried."""
        stop = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(seconds, stop.set)
        before = self._done
        try:
            await self._work(stop, for_ever=False)
        finally:
            timer.cancel()
        return self._done - before

    async def queue_stale(self, least: int) -> int:
        """Once a minute: queue the accounts whose document or handle was not checked
        for long. So many, `least` or more, that each has its turn in time however
        many there are; none while as many wait already."""
        age = self._settings.identity_age

        def queue(conn: Conn) -> int:
            share = host_rows.count_accounts(conn) * _MINUTE / max(age, _MINUTE)
            limit = max(least, math.ceil(_AHEAD * share))
            waiting = jobs.count_due(conn, IDENTITY_JOB, most=limit, since=_HELD_UP)
            if waiting >= limit:
                return 0
            stale = identities.stale_accounts(
                conn, older_than=age, limit=limit, job=IDENTITY_JOB
            )
            jobs.put_jobs(conn, IDENTITY_JOB, stale)
            return len(stale)

        return await asyncio.to_thread(self._database.run, queue)

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
                full = [h for h, n in self._turns.waiting().items() if n >= _LANE]
                took = await self._claim(full) if more else 0
                if took == _BATCH:
                    continue
                more = for_ever or (more and bool(full))
                if not (more or self._waiting or self._under_way):
                    break
                pause = max(_PAUSE, _PAUSES_PER_CLAIM * (clock() - begun))
                await wait_first(self._wake, stop, seconds=_IDLE)
                if more:
                    await wait_first(stop, seconds=pause)
            await self._give_back()
            await asyncio.gather(*self._under_way)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _claim(self, full: Sequence[int]) -> int:
        claimed: Sequence[jobs.ClaimedJob] = await asyncio.to_thread(
            self._database.run,
            lambda conn: jobs.claim_jobs(
                conn, IDENTITY_JOB, limit=_BATCH, lease_s=_LEASE, besides=full
            ),
        )
        if claimed:
            crashpoint(Crashpoint.IDENTITY_CLAIMED)
        for job in claimed:
            did = Did(job.key)
            self._waiting[did] = job
            self._turns.wait(job.host, did)
        self._start()
        return len(claimed)

    def _start(self) -> None:
        while (turn := self._turns.take()) is not None:
            job = self._waiting.pop(turn.did)
            task = asyncio.create_task(self._finish(self._turns, turn, job))
            self._under_way[task] = job
            task.add_done_callback(self._note_end)

    async def _finish(self, turns: Turns, turn: Turn, job: jobs.ClaimedJob) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            if await self._refresh(job):
                await asyncio.to_thread(
                    self._database.run,
                    lambda conn: jobs.finish_jobs(
                        conn,
                        [job.id],
                        again_in=self._resolver.refresh_in(
                            Did(job.key), insist=EARLY_LOOKS
                        ),
                    ),
                )
            self._done += 1
        finally:
            turns.give_back(turn, late=clock() - began >= _PATIENCE)
        self._start()
        if turn.host not in self._turns.waiting():
            self._wake.set()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()
        if self._error is not None or not (self._waiting or self._under_way):
            self._wake.set()

    async def _renew(self, now: float) -> None:
        """Keep what is held, however long it waits: nobody else shall do it too."""
        if now - self._renewed_at < _RENEWED_EVERY:
            return
        self._renewed_at = now
        held = [*self._waiting.values(), *self._under_way.values()]
        if held:
            ids = [job.id for job in held]
            await asyncio.to_thread(
                self._database.run,
                lambda conn: jobs.renew_jobs(conn, ids, lease_s=_LEASE),
            )

    async def _give_back(self) -> None:
        """Leave what waits to whoever works next."""
        waiting = [job.id for job in self._waiting.values()]
        self._waiting.clear()
        self._turns = Turns(_AT_ONCE, _PER_HOST)
        if waiting:
            await asyncio.to_thread(
                self._database.run, lambda conn: jobs.give_back_jobs(conn, waiting)
            )

    async def _refresh(self, job: jobs.ClaimedJob) -> bool:
        """Refresh one account; False when it must be tried again."""
        did = Did(job.key)
        # Until then the answer comes from memory, and may be older than the doubt.
        early = EARLY_LOOKS if job.doubted else 0
        wait = self._resolver.refresh_in(did, insist=early) if job.doubted else 0.0
        # Nobody said that anything changed: a mirror will do.
        answer = await look_up(
            self._resolver,
            did,
            refresh=True,
            insist=early,
            mirrored=not job.doubted,
        )
        if answer.failed:
            if job.tries >= _TRIES_OF_STRANGERS and not await self._is_known(did):
                return True
            await self._retry(job, "the DID could not be looked up")
            return False
        self.on_document(answer)
        if answer.gone:
            await self._apply_gone(did)
            return True
        handle = None
        if answer.document is not None:
            await self._place(did, answer)
            try:
                handle = await self._resolver.verify_handle(
                    answer.document, refresh=True
                )
            except NetworkError as error:
                claimed = answer.document.handles[0]
                if not await asyncio.to_thread(self._give_up, did, claimed):
                    await self._retry(job, str(error))
                    return False
        await asyncio.to_thread(
            self._database.persist, lambda: self._sink.set_handle(did, handle)
        )
        if wait > 0:
            await asyncio.to_thread(
                self._database.run,
                lambda conn: jobs.postpone_job(conn, job.id, wait=wait),
            )
        return wait <= 0

    def _give_up(self, did: Did, claimed: str) -> bool:
        """Count that the domain of the handle that an account claims could not be
        asked; tell whether that went on for too long. A handle that the account no
        longer claims goes at once: that is proven, whatever the new domain says."""

        def note(conn: Conn) -> tuple[bool, str | None]:
            failed = identities.note_handle_failure(conn, claimed)
            long = (
                failed.failures >= _FAILURES_BEFORE_DOUBT
                and failed.seconds >= _SECONDS_BEFORE_DOUBT
            )
            return long, identities.held_handle(conn, did)

        long, held = self._database.run(note)
        if held is not None and held != claimed:
            self._database.persist(lambda: self._sink.set_handle(did, None))
        return long

    async def _place(self, did: Did, answer: LookedUp) -> None:
        account = Account(did)
        account.set_document(answer.document, dev=self._settings.dev)
        if account.pds is None or account.pds_url is None:
            return
        place = Placement(did, account.pds, account.pds_url)

        def put(conn: Conn) -> None:
            if repo_rows.find_repos(conn, [did]):
                place_repos(conn, [place], relay=False)
            elif not repo_rows.has_ended(conn, did):
                self._let_in(conn, account)

        async with self._door:
            await asyncio.to_thread(self._database.run, put)

    def _let_in(self, conn: Conn, account: Account) -> None:
        """Take a newcomer who could not be looked up when it was told of."""
        if self._admission.scope.due:
            self._admission.scope.refresh(conn)
        if self._admission.in_scope(account.did):
            relay = host_relays.relay_is_read(conn)
            self._admission.admit(conn, [account], relay=relay)

    async def _is_known(self, did: Did) -> bool:
        return await asyncio.to_thread(
            self._database.run, lambda conn: bool(repo_rows.find_repos(conn, [did]))
        )

    async def _apply_gone(self, did: Did) -> None:
        event = AccountEvent(did, active=False, status=_DELETED)
        await asyncio.to_thread(
            self._database.persist, lambda: self._sink.apply([event], {})
        )

    async def _retry(self, job: jobs.ClaimedJob, why: str) -> None:
        wait = full_jitter(job.tries + 1, base=_FIRST_RETRY, cap=_LONGEST_RETRY)
        await asyncio.to_thread(
            self._database.run,
            lambda conn: jobs.retry_job(conn, job.id, why, wait=wait),
        )
