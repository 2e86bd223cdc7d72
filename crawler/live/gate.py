"""From raw frames to verified events, in the order of specs/sync: framing, syntax, host
of the account, admission, proof.

Nothing waits here. A frame that cannot be judged is dropped, and what makes up for it,
a lookup or a resync, is stored before the cursor passes the frame (ADR 0021).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from crawler.identities.accounts import Account, AccountBook
from crawler.live.decide import Apply, Limits, Resync, decide
from crawler.live.gate_frame import COMMIT, SYNC, GateFrame, prove_frames, read_frame
from crawler.live.gate_result import GateResult, Lookup, Quarantined, ResetHost
from crawler.live.stream_state import Arrival, StreamState
from crawler.scope.admission import Admission
from crawler.settings import CrawlSettings
from network.http.budget import TokenBucket
from protocol.events.drops import DropReason
from protocol.identity.keys import PublicKey
from protocol.limits import MAX_REV_AHEAD_US
from protocol.syntax.did import Did
from protocol.syntax.tid import is_tid, last_tid_at
from storage.jobs import Naming
from storage.postgres.pool import Conn
from storage.repos import identities
from storage.repos.scope_rows import add_accounts, hold_scope
from storage.states import STATUS_ACTIVE

log = logging.getLogger(__name__)

_PROVEN: Final = (COMMIT, SYNC)
# Lookups that an untrusted host may cause: of known accounts, and of unknown ones.
_REFRESHES_PER_S: Final = 1.0
_REFRESHES_AT_ONCE: Final = 20
_UNKNOWN_AT_ONCE: Final = 200
_DAY_S: Final = 86_400.0
_DOCUMENTS_A_LOOK: Final = 10_000
# Clocks of the processes that fetch documents may differ by so much.
_CLOCK_SKEW: Final = timedelta(seconds=5)

Run = Callable[[Callable[[Conn], Any]], Any]


class Gate:
    """Judges frames in one thread. `run` executes a function of a connection until it
    succeeds."""

    def __init__(
        self,
        settings: CrawlSettings,
        *,
        run: Run,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._settings = settings
        self._run = run
        self._clock = clock
        self._now_us = now_us
        self._book = AccountBook(
            settings.known_accounts,
            dev=settings.dev,
            refresh_interval=settings.refresh_interval,
            commits_per_s=settings.account_commits_per_s,
            cooldown=settings.account_cooldown,
            clock=clock,
        )
        self._admission = Admission(settings, clock=clock)
        self._documents_seen = datetime.now(UTC)
        self._lookups: dict[tuple[bool, int], TokenBucket] = {}

    def take(self, arrivals: Sequence[Arrival | ResetHost]) -> GateResult:
        """Judge frames in the order of their arrival."""
        result = GateResult()
        self._follow_scope()
        frames = self._read(arrivals, result)
        self._load(frames)
        self._admit_new(frames)
        self._prove(frames)
        for frame in frames:
            self._judge(frame, result)
        return result

    def _read(
        self, arrivals: Sequence[Arrival | ResetHost], result: GateResult
    ) -> list[GateFrame]:
        """Decode the frames of accounts in scope; set the marks of the streams."""
        frames: list[GateFrame] = []
        for arrival in arrivals:
            if type(arrival) is ResetHost:
                result.resets[arrival.host] = arrival.behind
                result.marks.pop(arrival.host, None)
                continue
            assert type(arrival) is Arrival
            stream = arrival.stream
            if stream.fault is None:
                # Frames up to there went to other shards, or came before.
                stream.last_seq = max(stream.last_seq, arrival.before)
                if arrival.raw is not None:
                    frame = self._open(stream, arrival.raw, result)
                    if frame is not None:
                        frames.append(frame)
                if stream.last_seq > 0:
                    result.marks[stream.host] = stream.last_seq
            if arrival.raw is not None:
                result.handled[stream.host] += 1
                stream.handled += 1
        return frames

    def _open(
        self, stream: StreamState, raw: bytes, result: GateResult
    ) -> GateFrame | None:
        """Decode a frame; drop those of accounts out of scope."""
        frame = read_frame(
            stream, raw, result, bad_seqs_allowed=self._settings.bad_seqs_allowed
        )
        if frame is None or self._admission.in_scope(frame.did):
            return frame
        paths = frame.written_paths()
        if paths is None or not self._admission.scope.find(frame.did, paths):
            result.drops[DropReason.OUT_OF_SCOPE, stream.host] += 1
            return None
        return frame

    # what Postgres knows

    def _follow_scope(self) -> None:
        """Once a second, read changes of the scope and newly fetched documents."""
        scope = self._admission.scope
        if not scope.due:
            return
        known = (self._book.get(did) for did in scope.found)
        joined = [a.did for a in known if a is not None and a.admitted]
        if joined:
            was = scope.scope
            self._run(lambda conn: add_accounts(conn, joined, mend=True, scope=was))
        left, fetched = self._run(
            lambda conn: (scope.refresh(conn), self._fetched_documents(conn))
        )
        # Accounts that leave and come back must be admitted again.
        self._book.expire(None if left is None else fetched)
        for did in left or ():
            self._book.forget(did)

    def _fetched_documents(self, conn: Conn) -> dict[str, datetime]:
        fetched = identities.changed_documents(
            conn, self._documents_seen - _CLOCK_SKEW, limit=_DOCUMENTS_A_LOOK
        )
        if fetched:
            self._documents_seen = max(self._documents_seen, fetched[-1][1])
        return dict(fetched)

    def _load(self, frames: Sequence[GateFrame]) -> None:
        """Read unknown accounts from Postgres, and those that seem to have moved."""
        stale = set(self._book.missing(frame.did for frame in frames))
        for frame in frames:
            account = self._book.get(frame.did)
            if account is not None and not _owns(frame.stream, account):
                stale.add(frame.did)
        if stale:
            self._run(lambda conn: self._book.load(conn, sorted(stale)))

    def _admit_new(self, frames: Sequence[GateFrame]) -> None:
        """Admit accounts that are resolved but not indexed yet, in bulk."""
        new: dict[bool, dict[Did, Account]] = {}
        for frame in frames:
            account = self._book.get(frame.did)
            if (
                account is not None
                and not account.admitted
                and account.pds is not None
                and _owns(frame.stream, account)
                and self._admission.in_scope(account.did)
                and account.pds not in self._admission.refused_hosts
                and frame.account_status in (None, STATUS_ACTIVE)
            ):
                new.setdefault(frame.stream.relay, {})[account.did] = account
        for relay, accounts in new.items():
            self._admit(list(accounts.values()), relay)

    def _admit(self, accounts: list[Account], relay: bool) -> None:
        # The first commit of a new account is on its way and makes a fetch needless.
        wait = self._settings.birth_wait
        scope = self._admission.scope

        def admit(conn: Conn) -> None:
            if any(scope.is_found(account.did) for account in accounts):
                # The scope is locked before hosts, as by commands that set it.
                hold_scope(conn, scope.scope)
            self._admission.admit(conn, accounts, relay=relay, wait=wait)
            found = [a.did for a in accounts if a.admitted and scope.is_found(a.did)]
            if found:
                # Or they would be removed as out of scope.
                add_accounts(conn, found, scope=scope.scope)

        self._run(admit)

    # the proof

    def _prove(self, frames: Sequence[GateFrame]) -> None:
        """Prove commits and syncs of admitted accounts within their commit budget.
        Where signatures fail, try once more with the documents in Postgres."""
        ready: list[tuple[GateFrame, PublicKey]] = []
        for frame in frames:
            if frame.t not in _PROVEN:
                continue
            account = self._book.get(frame.did)
            if (
                account is not None
                and account.admitted
                and account.key is not None
                and _owns(frame.stream, account)
            ):
                if _is_bounded(frame.stream) and not self._book.may_write(account):
                    frame.throttled = True
                else:
                    ready.append((frame, account.key))
        prove_frames(ready, self._now_us())
        unsigned = [frame for frame, _ in ready if frame.is_badly_signed]
        if not unsigned:
            return
        dids = {frame.did for frame in unsigned}
        self._run(lambda conn: self._book.load(conn, sorted(dids)))
        again: list[tuple[GateFrame, PublicKey]] = []
        for frame in unsigned:
            account = self._book.get(frame.did)
            if account is not None and account.key not in (None, frame.proven_by):
                assert account.key is not None
                again.append((frame, account.key))
        prove_frames(again, self._now_us())

    # the verdict

    def _judge(self, frame: GateFrame, result: GateResult) -> None:
        account = self._book.get(frame.did)
        decision = decide(
            frame,
            account,
            in_scope=self._admission.in_scope(frame.did),
            limits=Limits(self._admission.refused_hosts),
        )
        if isinstance(decision, Apply):
            assert account is not None
            self._apply(frame, account, decision, result)
            return
        reason = decision.reason
        looked_up = decision.look_up and self._look_up(frame, account, result)
        if isinstance(decision, Resync) and not looked_up:
            assert account is not None
            self._resync(frame, account, decision, result)
        elif reason is DropReason.UNKNOWN_ACCOUNT and decision.look_up != looked_up:
            reason = DropReason.HOST_BUDGET
        result.drops[reason, frame.stream.host] += 1

    def _apply(
        self, frame: GateFrame, account: Account, decision: Apply, result: GateResult
    ) -> None:
        if decision.refresh:
            result.refresh_identity(account.did, self._book.refresh_in(account))
        event = decision.event
        if frame.t in _PROVEN:
            rev = event.rev  # type: ignore[union-attr]
            account.rev = rev if account.rev is None else max(account.rev, rev)
        if self._settings.rebroadcast:
            event = replace(event, frame=frame.to_send(self._now_us()))
        result.events.append(event)

    def _resync(
        self, frame: GateFrame, account: Account, decision: Resync, result: GateResult
    ) -> None:
        if decision.cooldown:
            result.throttled.add(account.did)
            frame.stream.throttled += 1
            return
        result.to_resync.add(account.did)
        if decision.rev is not None:
            account.rev = decision.rev
        if decision.reason is DropReason.QUARANTINED:
            # A fault of ours must not stop the stream, now or after each restart.
            log.error(
                "frame_quarantined",
                extra={"did": account.did},
                exc_info=frame.proof,  # type: ignore[arg-type]
            )
            result.quarantined.append(
                Quarantined(frame.stream.host, frame.seq, frame.raw, repr(frame.proof))
            )

    def _look_up(
        self, frame: GateFrame, account: Account | None, result: GateResult
    ) -> bool:
        """Add a lookup of the account; return False if its host may cause no more."""
        unknown = account is None or not account.admitted
        if not self._may_look_up(frame.stream, unknown=unknown):
            return False
        account = account or self._book.put(frame.did)
        lookup = Lookup(
            self._book.refresh_in(account),
            self._book.must_refresh(account),
            {frame.stream.host: self._naming(frame)},
        )
        result.look_up(frame.did, lookup)
        return True

    def _naming(self, frame: GateFrame) -> Naming:
        rev = frame.body.get("rev") if frame.t in _PROVEN else None
        latest = last_tid_at(self._now_us() + MAX_REV_AHEAD_US)
        if type(rev) is not str or not is_tid(rev) or rev > latest:
            rev = ""
        in_scope = self._admission.scope.is_found(frame.did)
        return Naming(rev, in_scope, frame.account_status or "")

    def _may_look_up(self, stream: StreamState, *, unknown: bool) -> bool:
        """Take one of the lookups that an untrusted host may cause."""
        if stream.trusted:
            return True
        bucket = self._lookups.get((unknown, stream.host))
        if bucket is None:
            rate, burst = _REFRESHES_PER_S, _REFRESHES_AT_ONCE
            if unknown:
                rate = self._settings.host_accounts_per_day / _DAY_S
                burst = _UNKNOWN_AT_ONCE
            bucket = TokenBucket(rate, burst, self._clock)
            self._lookups[unknown, stream.host] = bucket
        return bucket.take()


def _owns(stream: StreamState, account: Account) -> bool:
    return account.belongs_to(stream.hostname, relay=stream.relay)


def _is_bounded(stream: StreamState) -> bool:
    """Return True if the accounts of a stream have commit budgets: all but those of
    the operator's own hosts."""
    return stream.relay or not stream.trusted
