"""Errors for accounts that are not shown."""

from __future__ import annotations

from typing import Final

from appview.hydration.labels import account_subject
from appview.hydration.state import State
from appview.rule_checks import Case, has_opted_out, is_gone
from appview.rules import Place, decide
from network.xrpc.server import XrpcError
from storage.states import STATUS_DELETED

SUSPENDED: Final = frozenset({"takendown", "suspended"})


def refuse_profile(state: State, actor: int) -> None:
    """Raise the error of getProfile for an account that is not shown."""
    case = Case(actor)
    if decide(state, Place.PROFILE, case) is None:
        return
    found = state.actors.get(actor)
    if found is None or not found.is_indexed or found.upstream_status == STATUS_DELETED:
        raise _bad_request("Profile not found")
    if not is_gone(state, case):
        if has_opted_out(state, case):
            raise _bad_request("This account is shown to signed-in people only")
        raise _bad_request("This account is hidden by a labeler")
    if (
        found.takedown is not None
        or found.did in state.session.taken_down.accounts
        or found.upstream_status in SUSPENDED
        or state.is_redacted(account_subject(actor))
    ):
        raise XrpcError("AccountTakedown", "Account has been suspended", 400)
    raise XrpcError("AccountDeactivated", "Account is deactivated", 400)


def refuse_repo(state: State, actor: int | None, name: str) -> str:
    """Return the DID of the account of a requested record.

    Raises the error of com.atproto.repo.getRecord for an account that is not shown.
    """
    if actor is not None:
        state.load_actors([actor])
        if decide(state, Place.PROFILE, Case(actor)) is None:
            return state.actors[actor].did
    raise _bad_request(f"Could not find repo: {name}")


def refuse_subject(state: State, actor: int, name: str) -> None:
    """Raise the error of getFollows and getFollowers for a hidden account."""
    if decide(state, Place.PROFILE, Case(actor)) is not None:
        raise _bad_request(f"Actor not found: {name}")


def refuse_author(state: State, actor: int) -> None:
    """Raise the error of getAuthorFeed for a hidden account, or for a block between it
    and the viewer."""
    if decide(state, Place.PROFILE, Case(actor)) is not None:
        raise _bad_request("Profile not found")
    viewer = state.session.viewer_actor
    if viewer is None:
        return
    did = state.actors[actor].did
    if state.restrictions.block(viewer, actor) is not None:
        raise XrpcError("BlockedActor", f"Requester has blocked actor: {did}", 400)
    if state.restrictions.block(actor, viewer) is not None:
        raise XrpcError("BlockedByActor", f"Requester is blocked by actor: {did}", 400)


def _bad_request(message: str) -> XrpcError:
    return XrpcError("InvalidRequest", message, 400)
