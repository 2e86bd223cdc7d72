"""Verifications of an account by the accounts that this provider trusts."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.account_marks import Verification
from appview.hydration.actors import Actor
from appview.hydration.labels import account_subject
from appview.hydration.state import State
from appview.views.common import datetime_text, present, text_of

IMPERSONATION: Final = "impersonation"
VALID: Final = "valid"
INVALID: Final = "invalid"
NONE: Final = "none"


def verification_state(state: State, actor: Actor) -> dict[str, Any] | None:
    """Return the verifications of an account, None if it has no part in any."""
    if actor.handle is None:
        return None
    views = [
        _view(state, actor, verification)
        for verification in state.marks.verifications.get(actor.id, ())
        if text_of(verification.record.value, "handle")
        and not state.session.taken_down.has_record(
            state.uris[verification.record.address]
        )
    ]
    trusted = actor.did in state.session.app.trusted_verifiers
    if not views and not trusted:
        return None
    redact = state.session.context.labelers.redact
    impersonates = any(
        label.val == IMPERSONATION and label.src in redact
        for label in state.labels.get(account_subject(actor.id), ())
    )
    is_valid = any(view["isValid"] for view in views) and not impersonates
    verified = VALID if is_valid else INVALID
    verifier = INVALID if impersonates else VALID
    return {
        "verifications": views,
        "verifiedStatus": verified if views else NONE,
        "trustedVerifierStatus": verifier if trusted else NONE,
    }


def _view(state: State, actor: Actor, verification: Verification) -> dict[str, Any]:
    record = verification.record
    issuer = state.actors[record.address.actor]
    profile = state.profile_record(actor.id)
    name = text_of(profile.value, "displayName") if profile else None
    # The record has the names at the time: another name needs another verification.
    is_valid = (
        bool(name)
        and text_of(record.value, "displayName") == name
        and text_of(record.value, "handle") == actor.handle
    )
    return present(
        issuer=issuer.did,
        issuerDisplayName=issuer.display_name,
        issuerHandle=issuer.handle,
        uri=state.uris[record.address],
        isValid=is_valid,
        createdAt=datetime_text(verification.sort_at),
    )
