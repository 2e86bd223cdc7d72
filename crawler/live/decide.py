"""The verdict on one frame of an account: apply it, drop it, or fetch the repo.

Pure: the same frame, account, scope and limits always give the same decision.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from crawler.hosts.host_name import HostName
from crawler.identities.accounts import Account
from crawler.live import rejections
from crawler.live.gate_frame import ACCOUNT, IDENTITY, GateFrame
from protocol.errors import ProtocolError
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent, CommitEvent, IdentityEvent, SyncEvent
from protocol.syntax.handle import Handle, is_handle
from protocol.syntax.tid import Tid
from storage.states import STATUS_ACTIVE


class Apply(NamedTuple):
    """The event is proven. `refresh`: the account's identity may have changed."""

    event: CommitEvent | SyncEvent | IdentityEvent | AccountEvent
    refresh: bool = False


class Drop(NamedTuple):
    """Nothing of the account is lost. `look_up`: another DID document may change
    this decision."""

    reason: DropReason
    look_up: bool = False


class Resync(NamedTuple):
    """An event of the account is lost, and its repo must be fetched: once the lookup
    is done, with `look_up`; once the account slows down, with `cooldown`. `rev` is the
    revision if it is signed."""

    reason: DropReason
    look_up: bool = False
    rev: Tid | None = None
    cooldown: bool = False


Decision: TypeAlias = Apply | Drop | Resync


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold at the moment. `refused_hosts` may not add accounts."""

    refused_hosts: Container[HostName] = frozenset()


def decide(
    frame: GateFrame, account: Account | None, *, in_scope: bool, limits: Limits
) -> Decision:
    """Judge a frame whose proof, if it has one, is in `frame.proof`.

    `account` is None where no DID document is known.
    """
    if not in_scope:
        return Drop(DropReason.OUT_OF_SCOPE)
    if account is None or not account.found:
        return _decide_unknown(frame, account, limits)
    stream = frame.stream
    if not account.belongs_to(stream.hostname, relay=stream.relay):
        return Drop(DropReason.WRONG_HOST, look_up=True)
    if not account.admitted:
        refused = account.pds in limits.refused_hosts
        return Drop(DropReason.HOST_BUDGET if refused else DropReason.UNKNOWN_ACCOUNT)
    if frame.t == IDENTITY:
        return _decide_identity(frame)
    if frame.t == ACCOUNT:
        return _decide_status(frame)
    if frame.throttled:
        return Resync(DropReason.THROTTLED, cooldown=True)
    if account.pds is None:
        # A relay may report that an account is gone, but it has no commits.
        return Drop(DropReason.WRONG_HOST, look_up=True)
    if account.key is None:
        return Drop(DropReason.NO_SIGNING_KEY, look_up=True)
    return _decide_proof(frame, account)


def _decide_unknown(
    frame: GateFrame, account: Account | None, limits: Limits
) -> Decision:
    stream = frame.stream
    if account is not None and account.admitted:
        return Drop(DropReason.UNRESOLVED_IDENTITY, look_up=True)
    if not stream.relay and stream.hostname in limits.refused_hosts:
        return Drop(DropReason.HOST_BUDGET)
    return Drop(DropReason.UNKNOWN_ACCOUNT, look_up=True)


def _decide_identity(frame: GateFrame) -> Decision:
    handle = frame.body.get("handle")
    hint = Handle(handle) if type(handle) is str and is_handle(handle) else None
    event = IdentityEvent(frame.did, hint, frame.seq, frame.stream.host)
    return Apply(event, refresh=True)


def _decide_status(frame: GateFrame) -> Decision:
    status = frame.account_status
    if status is None:
        return Drop(DropReason.BAD_FIELD)
    active = status == STATUS_ACTIVE
    event = AccountEvent(
        frame.did, active, None if active else status, frame.seq, frame.stream.host
    )
    # A host does not answer for the handles of inactive accounts.
    return Apply(event, refresh=active)


def _decide_proof(frame: GateFrame, account: Account) -> Decision:
    proof = frame.proof
    assert proof is not None
    if not isinstance(proof, Exception):
        return Apply(proof)
    if not isinstance(proof, ProtocolError):
        return Resync(DropReason.QUARANTINED)
    reason = rejections.drop_reason(proof)
    signed = reason in rejections.UNFOLLOWED
    if not signed and reason is not DropReason.BAD_SIGNATURE:
        return Drop(reason)
    rev = Tid(frame.body["rev"])
    if account.rev is not None and rev <= account.rev:
        # A repeated frame, perhaps from before a key rotation.
        return Drop(DropReason.STALE_REV)
    if signed:
        return Resync(reason, rev=rev)
    return Resync(reason, look_up=True)
