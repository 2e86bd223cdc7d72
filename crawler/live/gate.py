"""From raw frames to verified events: who may speak for whom, and is it true.

The first half of specs/sync, in its order: framing, syntax, whether the host owns the
DID, whether the account is let in, then the proof itself (crawler.live.verify). If
the chain follows on from what is stored is decided where it is stored. Frames that need
an identity look-up wait here, per DID and in order, while others pass.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Final

from crawler.identities.accounts import Account, AccountBook
from crawler.live import verify
from crawler.live.gate_frame import (
    ACCOUNT,
    COMMIT,
    IDENTITY,
    SYNC,
    GateFrame,
    prove_commits,
    read_frame,
)
from crawler.live.high_water import HighWater
from crawler.live.parking import Parking
from crawler.live.rounds import (
    LookedUp,
    Passed,
    ResetHost,
    SetAside,
)
from crawler.live.stream_state import Arrival, StreamState
from crawler.scope.admission import Admission, Placement, place_repos
from crawler.settings import CrawlSettings
from network.http.budget import TokenBucket
from protocol.errors import ProtocolError
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent, IdentityEvent
from protocol.identity.keys import PublicKey
from protocol.syntax.did import Did, is_plc_did
from protocol.syntax.handle import Handle, is_handle
from protocol.syntax.tid import Tid
from storage.postgres.pool import Conn
from storage.repos.scope_rows import add_accounts, hold_scope

log = logging.getLogger(__name__)

DELETED: Final = "deleted"
_CHAIN: Final = (COMMIT, SYNC)


class _Verdict(Enum):
    DONE = 0
    LOOK_UP = 1
    REFRESH = 2


Run = Callable[[Callable[[Conn], Any]], Any]


class Gate:
    """One thread's work; it owns the book of accounts and the waiting frames.

    `run` executes a function of a connection until it succeeds; `look_up(did,
    refresh, host)` starts a look-up whose answer comes back through `take`, on the
    account of the host whose frame needs it.
    """

    def __init__(
        self,
        settings: CrawlSettings,
        *,
        run: Run,
        look_up: Callable[[Did, bool, int], None],
        relayed: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._settings = settings
        self._run = run
        self._look_up = look_up
        self._relayed = relayed
        self._clock = clock
        self._now_us = now_us
        self._book = AccountBook(
            settings.known_accounts,
            dev=settings.dev,
            refresh_interval=settings.refresh_interval,
            commits_per_s=settings.account_commits_per_s,
            calm=settings.account_calm,
            clock=clock,
        )
        self._admission = Admission(settings, clock=clock)
        self._water = HighWater()
        self._parking = Parking(settings)
        self._doubts: dict[int, TokenBucket] = {}
        self._strangers: dict[int, TokenBucket] = {}

    @property
    def full(self) -> bool:
        """True while too much waits for look-ups: no new frames should be taken."""
        return self._parking.full

    @property
    def waiting(self) -> int:
        """DIDs that wait for a look-up."""
        return len(self._parking)

    def take(
        self,
        arrivals: Sequence[Arrival | ResetHost],
        answers: Sequence[LookedUp] = (),
        resets: Sequence[ResetHost] = (),
    ) -> Passed:
        """Judge frames in the order of their arrival; `resets` and answers first."""
        passed = Passed()
        self._follow_scope()
        for reset in resets:
            self._reset(reset, passed)
        hosts: set[int] = set()
        messages = self._release(answers, passed) if answers else []
        hosts.update(message.stream.host for message in messages)
        for arrival in arrivals:
            if type(arrival) is ResetHost:
                self._reset(arrival, passed)
                continue
            assert type(arrival) is Arrival
            stream = arrival.stream
            hosts.add(stream.host)
            if stream.fault is None and arrival.before > stream.last_seq:
                # Frames up to there are in other hands, or came to these before.
                stream.last_seq = arrival.before
                self._water.handle(stream.host, arrival.before)
            if arrival.raw is None:
                continue
            if stream.fault is None:
                message = self._open(stream, arrival.raw, passed)
                if message is not None:
                    messages.append(message)
            passed.handled[stream.host] += 1
            stream.handled += 1
        self._prepare(messages)
        self._prove_commits(messages)
        for message in messages:
            self._judge(message, passed)
        for host in hosts:
            mark = self._water.mark(host)
            if mark > 0:
                passed.marks[host] = mark
        return passed

    def _reset(self, reset: ResetHost, passed: Passed) -> None:
        self._water.forget(reset.host)
        passed.resets[reset.host] = reset.behind

    def _open(
        self, stream: StreamState, raw: bytes, passed: Passed
    ) -> GateFrame | None:
        """Read a frame; nothing more is spent on an account that nobody wants."""
        before = stream.last_seq
        message = read_frame(
            stream, raw, passed, bad_seqs_allowed=self._settings.bad_seqs_allowed
        )
        if stream.last_seq != before:
            self._water.handle(stream.host, stream.last_seq)
        if message is None or self._admission.in_scope(message.did):
            return message
        paths = message.written_paths()
        if paths is None or not self._admission.scope.find(message.did, paths):
            self._drop(DropReason.OUT_OF_SCOPE, stream, passed)
            return None
        return message

    def _follow_scope(self) -> None:
        """See what the operator wants now, and have those join who were found."""
        scope = self._admission.scope
        if not scope.due:
            return
        known = (self._book.get(did) for did in scope.found)
        joined = [a.did for a in known if a is not None and a.admitted]
        if joined:
            was = scope.scope
            self._run(lambda conn: add_accounts(conn, joined, mend=True, scope=was))
        left = self._run(scope.refresh)
        # Who left and comes back has to be let in again.
        if left is None:
            self._book.clear()
        else:
            for did in left:
                self._book.forget(did)

    def _prepare(self, messages: Sequence[GateFrame]) -> None:
        """Bring in what is known of these accounts, and let new ones in: in bulk."""
        missing = self._book.missing({message.did for message in messages})
        if missing:
            self._run(lambda conn: self._book.load(conn, map(Did, missing)))
        strangers: dict[bool, dict[Did, Account]] = {}
        for message in messages:
            account = self._book.get(message.did)
            if (
                account is not None
                and not account.admitted
                and account.pds is not None
                and self._owns(message.stream, account)
                and self._admission.in_scope(account.did)
                and not self._admission.closed(account.pds)
                and not (message.t == ACCOUNT and message.body.get("active") is False)
            ):
                relay = message.stream.relay
                strangers.setdefault(relay, {})[account.did] = account
        for relay, accounts in strangers.items():
            self._admit(list(accounts.values()), relay)

    def _admit(self, accounts: list[Account], relay: bool) -> None:
        # A newborn's first commit is on its way and makes a fetch needless.
        wait = self._settings.birth_wait
        scope = self._admission.scope

        def admit(conn: Conn) -> None:
            if any(scope.is_found(account.did) for account in accounts):
                # The scope is locked before hosts, as by who sets it.
                hold_scope(conn, scope.scope)
            self._admission.admit(conn, accounts, relay=relay, wait=wait)
            found = [a.did for a in accounts if a.admitted and scope.is_found(a.did)]
            if found:
                # Or it would be taken for one that does not belong here.
                add_accounts(conn, found, scope=scope.scope)

        self._run(admit)

    def _prove_commits(self, messages: Sequence[GateFrame]) -> None:
        """Prove, in groups, the commits that nothing else speaks against as yet, but
        for those of accounts that write too many."""
        ready: list[tuple[GateFrame, PublicKey]] = []
        for message in messages:
            if message.t not in _CHAIN or message.did in self._parking:
                continue
            account = self._book.get(message.did)
            if (
                account is not None
                and account.key is not None
                and account.admitted
                and self._owns(message.stream, account)
            ):
                if _is_bounded(message.stream) and not self._book.may_write(account):
                    message.throttled = True
                elif message.t == COMMIT:
                    ready.append((message, account.key))
        prove_commits(ready, self._now_us())

    def _judge(self, message: GateFrame, passed: Passed) -> None:
        # Behind an earlier frame of its account that waits: the order is kept.
        if message.did not in self._parking:
            verdict = self._decide(message, passed)
            if verdict is _Verdict.DONE:
                self._water.release(message.stream.host, message.seq)
                return
            message.looked = verdict is _Verdict.REFRESH
        if not self._parking.has_asked(message):
            if not self._parking.has_room(message):
                self._give_up(message, DropReason.HOST_BUDGET, passed)
                return
            # Also where another host asked: its turn must not be waited for.
            self._look_up(message.did, message.looked, message.stream.host)
        self._park(message, passed)

    def _park(self, message: GateFrame, passed: Passed) -> None:
        self._water.wait(message.stream.host, message.seq)
        if not self._parking.put(message):
            self._give_up(message, DropReason.UNRESOLVED_IDENTITY, passed)
        for frame in self._parking.shed():
            self._give_up(frame, DropReason.HOST_BUDGET, passed)

    def _give_up(self, message: GateFrame, reason: DropReason, passed: Passed) -> None:
        self._water.release(message.stream.host, message.seq)
        self._drop(reason, message.stream, passed)
        account = self._book.get(message.did)
        if account is None or self._owns(message.stream, account):
            passed.distrusted.add(message.did)

    def _release(self, answers: Sequence[LookedUp], passed: Passed) -> list[GateFrame]:
        """Take in the answers to look-ups; return the frames that waited for them.

        All at once: one host that names thousands of strangers must not have everybody
        wait for as many transactions.
        """
        accounts: list[Account] = self._run(
            lambda conn: self._book.learn(conn, answers)
        )
        places = {
            account.did: Placement(account.did, account.pds, account.pds_url)
            for account in accounts
            if account.admitted
            and account.pds is not None
            and account.pds_url is not None
        }
        if places:
            self._run(
                lambda conn: place_repos(
                    conn, list(places.values()), relay=self._relayed
                )
            )
        released: list[GateFrame] = []
        for answer, account in zip(answers, accounts, strict=True):
            messages = self._parking.take(answer.did)
            if answer.gone and account.admitted:
                host = messages[0].stream.host if messages else 0
                passed.events.append(
                    AccountEvent(answer.did, active=False, status=DELETED, host=host)
                )
            released += messages
        return released

    def _decide(self, message: GateFrame, passed: Passed) -> _Verdict:
        """Judge one frame, or say which look-up it needs first."""
        stream = message.stream
        account = self._book.get(message.did)
        if not self._admission.in_scope(message.did):
            return self._drop(DropReason.OUT_OF_SCOPE, stream, passed)
        if account is None:
            closed = not stream.relay and self._admission.closed(stream.hostname)
            if closed or not self._may_ask(stream, self._strangers, 1.0, 200):
                return self._drop(DropReason.HOST_BUDGET, stream, passed)
            return _Verdict.LOOK_UP
        if not account.found:
            if self._book.may_refresh(account) and (
                account.admitted or self._may_ask(stream, self._strangers, 1.0, 200)
            ):
                return _Verdict.REFRESH
            if account.admitted:
                passed.distrusted.add(account.did)
            elif account.unanswered and is_plc_did(account.did):
                # A newcomer while the directory is away: it may never write again.
                self._doubt(account, passed)
            return self._drop(DropReason.UNRESOLVED_IDENTITY, stream, passed)
        if not self._owns(stream, account):
            if self._book.may_refresh(account) and self._may_ask(
                stream, self._doubts, 1.0, 20
            ):
                return _Verdict.REFRESH
            return self._drop(DropReason.WRONG_HOST, stream, passed)
        if not account.admitted:
            refused = account.pds is not None and self._admission.closed(account.pds)
            reason = DropReason.HOST_BUDGET if refused else DropReason.UNKNOWN_ACCOUNT
            return self._drop(reason, stream, passed)
        if message.t == IDENTITY:
            return self._pass_identity(message, account, passed)
        if message.t == ACCOUNT:
            return self._pass_account(message, account, passed)
        if message.throttled:
            # Where it got to is fetched once it is calm.
            passed.throttled.add(account.did)
            stream.throttled += 1
            return self._drop(DropReason.THROTTLED, stream, passed)
        return self._prove(message, account, passed)

    def _prove(self, message: GateFrame, account: Account, passed: Passed) -> _Verdict:
        stream = message.stream
        if account.key is None or account.pds is None:
            if self._book.may_refresh(account):
                return _Verdict.REFRESH
            # A relay may say that an account is gone; what has no home has no commits.
            missing = DropReason.NO_SIGNING_KEY
            if account.key is not None:
                missing = DropReason.WRONG_HOST
            return self._drop(missing, stream, passed)
        try:
            event = message.verify(account.key, self._now_us())
        except ProtocolError as error:
            return self._refuse(message, account, error, passed)
        except Exception as error:
            # A fault of ours, not of the frame: one event must not stop the stream,
            # now or after each restart, so it is set aside and everybody told.
            log.exception("frame_set_aside", extra={"did": account.did})
            passed.set_aside.append(
                SetAside(stream.host, message.seq, message.raw, repr(error))
            )
            passed.distrusted.add(account.did)
            return self._drop(DropReason.QUARANTINED, stream, passed)
        if account.rev is None or account.rev < event.rev:
            account.rev = event.rev
        frame = self._frame_of(message)
        if frame is not None:
            event = replace(event, frame=frame)
        passed.events.append(event)
        return _Verdict.DONE

    def _refuse(
        self,
        message: GateFrame,
        account: Account,
        error: ProtocolError,
        passed: Passed,
    ) -> _Verdict:
        """Drop a frame that proves nothing. Passing over what its account did sign,
        or may have signed with a key that we do not know, would lose it for good."""
        reason = verify.drop_reason(error)
        signed = reason in verify.UNFOLLOWED
        if signed or reason is DropReason.BAD_SIGNATURE:
            rev = Tid(message.body["rev"])
            if account.rev is not None and rev <= account.rev:
                # It comes again, from before the key was changed for one.
                reason = DropReason.STALE_REV
            elif not signed and self._may_doubt_key(message, account):
                return _Verdict.REFRESH
            else:
                # Were it our document that is old, fetching the repo will show it.
                passed.distrusted.add(account.did)
                account.rev = rev if signed else account.rev
        return self._drop(reason, message.stream, passed)

    def _may_doubt_key(self, message: GateFrame, account: Account) -> bool:
        """Whether to look at the key again: it may have been rotated a moment ago, even
        since it was last looked at. A liar gets one look more than the one a minute
        for an account, and of one host's doubts one a second is followed."""
        if self._book.may_refresh(account):
            return True
        return (
            not message.looked
            and self._parking.has_room(message)
            and self._may_ask(message.stream, self._doubts, 1.0, 20)
            and self._book.may_insist(account)
        )

    def _pass_identity(
        self, message: GateFrame, account: Account, passed: Passed
    ) -> _Verdict:
        handle = message.body.get("handle")
        hint = Handle(handle) if type(handle) is str and is_handle(handle) else None
        self._doubt(account, passed)
        passed.events.append(
            IdentityEvent(
                account.did,
                hint,
                message.seq,
                message.stream.host,
                frame=self._frame_of(message),
            )
        )
        return _Verdict.DONE

    def _doubt(self, account: Account, passed: Passed) -> None:
        """Have the document and the handle looked up again."""
        due = self._book.doubt_in(account)
        passed.identities[account.did] = min(
            due, passed.identities.get(account.did, due)
        )

    def _pass_account(
        self, message: GateFrame, account: Account, passed: Passed
    ) -> _Verdict:
        active, status = message.body.get("active"), message.body.get("status")
        if type(active) is not bool or not (status is None or type(status) is str):
            return self._drop(DropReason.BAD_FIELD, message.stream, passed)
        if active:
            # While it was away its host may not have answered for its handle.
            self._doubt(account, passed)
        passed.events.append(
            AccountEvent(
                message.did,
                active,
                None if status is None else status[:64],
                message.seq,
                message.stream.host,
                frame=self._frame_of(message),
            )
        )
        return _Verdict.DONE

    def _frame_of(self, message: GateFrame) -> bytes | None:
        """The frame to be sent on, where somebody wants it."""
        if not self._settings.rebroadcast:
            return None
        return message.to_send(self._now_us())

    @staticmethod
    def _owns(stream: StreamState, account: Account) -> bool:
        """Tell whether this stream may speak for the account (specs/sync)."""
        return stream.relay or account.pds == stream.hostname

    def _may_ask(
        self,
        stream: StreamState,
        buckets: dict[int, TokenBucket],
        rate: float,
        burst: int,
    ) -> bool:
        """Bound the look-ups that a host can cause by naming whom it likes."""
        if stream.trusted:
            return True
        bucket = buckets.get(stream.host)
        if bucket is None:
            bucket = buckets[stream.host] = TokenBucket(rate, burst, self._clock)
        return bucket.take()

    @staticmethod
    def _drop(reason: DropReason, stream: StreamState, passed: Passed) -> _Verdict:
        passed.drops[reason, stream.host] += 1
        return _Verdict.DONE


def _is_bounded(stream: StreamState) -> bool:
    """Whether the accounts of a stream have a budget each. A relay is trusted to say
    what they wrote, not for how much they write; a host of our operator's own is for
    both, as it is for its number of events."""
    return stream.relay or not stream.trusted
