"""Accounts that are left out of recommendations: by their own wish, or by labels."""

from __future__ import annotations

from typing import Final

from appview.hydration.labels import account_subject
from appview.hydration.self_labels import self_label_values
from appview.hydration.state import State, profile_address
from feeds.opt_outs import VISIBILITY_DECLARATION, asks_to_hide

NO_UNAUTHENTICATED: Final = "!no-unauthenticated"
HIDE: Final = "!hide"


def is_unrecommended(state: State, actor: int) -> bool:
    """Return True if a loaded account is not to be suggested to this viewer.

    A declaration of another shape counts as a request to be left out.
    """
    declared = state.declarations.get((actor, VISIBILITY_DECLARATION))
    if declared is not None and asks_to_hide(declared.value):
        return True
    labels = {
        label.val
        for subject in (account_subject(actor), profile_address(actor))
        for label in state.labels.get(subject, ())
    }
    profile = state.profile_record(actor)
    if profile is not None:
        labels.update(self_label_values(profile.value))
    signed_out = state.session.context.viewer_did is None
    return HIDE in labels or (signed_out and NO_UNAUTHENTICATED in labels)
