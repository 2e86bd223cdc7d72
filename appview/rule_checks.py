"""Conditions of the rules table, and the check of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from appview.hydration.labels import account_subject
from appview.hydration.notices import replies_between
from appview.hydration.records import POST
from appview.hydration.references import quoted_uri, root_uri
from appview.hydration.self_labels import self_label_values
from appview.hydration.state import State, profile_address
from appview.hydration.subscriptions import may_subscribe
from appview.hydration.unrecommended import HIDE, NO_UNAUTHENTICATED, is_unrecommended
from storage.collections import FEED_POST
from storage.private.mutes import FULL_MUTE, Mute
from storage.records.addresses import Address

_PUSHPIN: Final = "\N{PUSHPIN}"


class Condition(Enum):
    """A reason against showing an item."""

    MISSING = auto()
    """The record was deleted or never seen."""
    GONE = auto()
    """The account is unknown, not active, taken down, or redacted by a labeler."""
    REDACTED = auto()
    """We, or a labeler that the viewer accepts with `redact`, took the record down."""
    OPTED_OUT = auto()
    """The account asks to be shown to signed-in people only (pages)."""
    LABELLED = auto()
    """A labeler hides the account, its profile or the record (pages)."""
    VIEWER_BLOCK = auto()
    """The viewer and the account block each other, either way, by record or list."""
    PARTY_BLOCK = auto()
    """The account and the one beside it block each other, either way."""
    ANCESTOR_BLOCK = auto()
    """The viewer and the author of the parent or grandparent block each other."""
    UNRECOMMENDED = auto()
    """The account asks to be left out of recommendations."""
    MUTED = auto()
    """The viewer mutes the account, or a list of it, or its quotes and this is one."""
    MUTED_REPOSTS = auto()
    """The viewer mutes the account or its reposts."""
    MUTED_CONTENT = auto()
    """The viewer mutes the account, but not the one beside it that reposted it."""
    MUTED_ACCOUNT = auto()
    """The viewer mutes the account as a whole, by itself or by a list."""
    MUTED_THREAD = auto()
    """The viewer mutes the thread of the record."""
    GATED = auto()
    """The thread's gate does not let the account reply."""
    SIGNED_OUT = auto()
    """The account is shown to signed-in accounts only, and there is no viewer."""
    HIDDEN_BY_GATE = auto()
    """The author of the thread has hidden the reply, which is not the viewer's."""
    PIN_MARK = auto()
    """The text is a pushpin alone: a bookmark of its author."""
    HIDDEN_REPLY = auto()
    """The author of the thread has hidden the reply (pages)."""
    HIDDEN_BY_VIEWER = auto()
    """The viewer has hidden the reply in a thread of its own."""
    BELOW_HIDDEN_REPLY = auto()
    """A reply between the record and the subject is hidden in its thread."""
    NOT_SUBSCRIBABLE = auto()
    """The account does not let the viewer subscribe to its activity."""
    NOT_QUOTABLE = auto()
    """The gate of the quoted post forbids quotes."""
    DETACHED = auto()
    """The author of the quoted post has detached this quote."""


@dataclass(frozen=True, slots=True)
class Case:
    """An item in a place.

    `beside` is the account on the other side, `quoted_by` the quoting post, `subject`
    the viewer's record that a notification is about.
    """

    actor: int
    record: Address | None = None
    beside: int | None = None
    quoted_by: Address | None = None
    subject: Address | None = None


def _is_missing(state: State, case: Case) -> bool:
    record = case.record
    if record is None or record in state.posts or record in state.named:
        return False
    return record.collection == POST or record not in state.records


def is_gone(state: State, case: Case) -> bool:
    actor = state.actors.get(case.actor)
    return (
        actor is None
        or not actor.is_shown
        or actor.did in state.session.taken_down.accounts
        or state.is_redacted(account_subject(case.actor))
    )


def _is_redacted(state: State, case: Case) -> bool:
    return case.record is not None and (
        state.is_taken_down(case.record) or state.is_redacted(case.record)
    )


def has_opted_out(state: State, case: Case) -> bool:
    session = state.session
    if session.viewer is not None or not session.context.for_page:
        return False
    profile = state.records.get(profile_address(case.actor))
    actor = state.actors.get(case.actor)
    if profile is None and actor is not None and actor.sort_at is not None:
        # The profile exists but the allowance was spent; it may say so.
        return True
    post = state.posts.get(case.record) if case.record else None
    values = self_label_values(profile.value) if profile else []
    values += self_label_values(post.record.value) if post else []
    return NO_UNAUTHENTICATED in values


def _is_labelled(state: State, case: Case) -> bool:
    if not state.session.context.for_page:
        return False
    subjects = [account_subject(case.actor), profile_address(case.actor)]
    if case.record is not None:
        subjects.append(case.record)
    return any(
        label.val in (HIDE, NO_UNAUTHENTICATED)
        for subject in subjects
        for label in state.labels.get(subject, ())
    )


def _is_blocked(state: State, actor: int) -> bool:
    viewer = state.session.viewer_actor
    return viewer is not None and state.restrictions.is_blocked(viewer, actor)


def _is_viewer_blocked(state: State, case: Case) -> bool:
    return _is_blocked(state, case.actor)


def _is_party_blocked(state: State, case: Case) -> bool:
    return case.beside is not None and state.restrictions.is_blocked(
        case.beside, case.actor
    )


def _is_ancestor_blocked(state: State, case: Case) -> bool:
    post = state.posts.get(case.record) if case.record else None
    parent = post.parent if post else None
    above = state.posts.get(parent) if parent else None
    grandparent = above.parent if above else None
    return any(_is_blocked(state, a.actor) for a in (parent, grandparent) if a)


def _is_unrecommended(state: State, case: Case) -> bool:
    return is_unrecommended(state, case.actor)


def _mute_of(state: State, actor: int | None) -> Mute | None:
    if actor is None:
        return None
    if actor in state.muting_lists:
        return FULL_MUTE
    found = state.actors.get(actor)
    return state.session.private.mute_of(found.did) if found else None


def _is_muted(state: State, case: Case) -> bool:
    mute = _mute_of(state, case.actor)
    if mute is None or mute.is_full:
        return mute is not None
    post = state.posts.get(case.record) if case.record else None
    uri = quoted_uri(post.record.value) if post else None
    return mute.only_quotes and uri is not None and f"/{FEED_POST}/" in uri


def _are_reposts_muted(state: State, case: Case) -> bool:
    mute = _mute_of(state, case.actor)
    return mute is not None and (mute.is_full or mute.only_reposts)


def _is_content_muted(state: State, case: Case) -> bool:
    mute, beside = _mute_of(state, case.actor), _mute_of(state, case.beside)
    if case.beside is None or mute is None or not mute.is_full:
        return False
    return beside is None or not beside.is_full


def _is_account_muted(state: State, case: Case) -> bool:
    mute = _mute_of(state, case.actor)
    return mute is not None and mute.is_full


def _is_thread_muted(state: State, case: Case) -> bool:
    post = state.posts.get(case.record) if case.record else None
    if post is None:
        return False
    uri = root_uri(post) or state.uris[post.record.address]
    return state.session.private.is_thread_muted(uri)


def _is_hidden_by_viewer(state: State, case: Case) -> bool:
    post = state.posts.get(case.record) if case.record else None
    if post is None or post.root is None:
        return False
    own = post.root.actor == state.session.viewer_actor
    return own and _is_hidden_in(state, post.root, post.record.address)


def _is_hidden_in(state: State, root: Address, reply: Address) -> bool:
    gate = state.restrictions.threadgate(root)
    return gate is not None and state.uris.get(reply) in gate.hidden_replies


def _is_below_hidden_reply(state: State, case: Case) -> bool:
    post = state.posts.get(case.record) if case.record else None
    if post is None or post.root is None or case.subject is None:
        return False
    between = replies_between(state, post, case.subject)
    return any(_is_hidden_in(state, post.root, reply) for reply in between)


def _is_not_subscribable(state: State, case: Case) -> bool:
    return not may_subscribe(state, case.actor)


def _is_gated(state: State, case: Case) -> bool:
    return case.record is not None and state.restrictions.violates(case.record)


def _is_signed_out(state: State, case: Case) -> bool:
    if state.session.context.viewer_did is not None:
        return False
    subjects = account_subject(case.actor), profile_address(case.actor)
    labels = {label.val for s in subjects for label in state.labels.get(s, ())}
    profile = state.profile_record(case.actor)
    own = self_label_values(profile.value) if profile else ()
    return NO_UNAUTHENTICATED in labels or NO_UNAUTHENTICATED in own


def _is_pin_mark(state: State, case: Case) -> bool:
    post = state.posts.get(case.record) if case.record else None
    text = post.record.value.get("text") if post else None
    return isinstance(text, str) and text.strip() == _PUSHPIN


def _is_hidden_reply(state: State, case: Case) -> bool:
    return state.session.context.for_page and _is_gate_hidden(state, case)


def _is_hidden_by_gate(state: State, case: Case) -> bool:
    return case.actor != state.session.viewer_actor and _is_gate_hidden(state, case)


def _is_gate_hidden(state: State, case: Case) -> bool:
    post = state.posts.get(case.record) if case.record else None
    if post is None or post.root is None:
        return False
    gate = state.restrictions.threadgate(post.root)
    return gate is not None and state.uris[post.record.address] in gate.hidden_replies


def _is_not_quotable(state: State, case: Case) -> bool:
    quoting = state.posts.get(case.quoted_by) if case.quoted_by else None
    if quoting is None or case.record is None or case.record.collection != POST:
        return False
    return state.restrictions.violates_postgate(quoting, case.record)


def _is_detached(state: State, case: Case) -> bool:
    if case.record is None or case.quoted_by is None:
        return False
    gate = state.restrictions.postgate(case.record)
    return gate is not None and state.uris.get(case.quoted_by) in gate.detached


HOLDS: Final[dict[Condition, Callable[[State, Case], bool]]] = {
    Condition.MISSING: _is_missing,
    Condition.GONE: is_gone,
    Condition.REDACTED: _is_redacted,
    Condition.OPTED_OUT: has_opted_out,
    Condition.LABELLED: _is_labelled,
    Condition.VIEWER_BLOCK: _is_viewer_blocked,
    Condition.PARTY_BLOCK: _is_party_blocked,
    Condition.ANCESTOR_BLOCK: _is_ancestor_blocked,
    Condition.UNRECOMMENDED: _is_unrecommended,
    Condition.MUTED: _is_muted,
    Condition.MUTED_REPOSTS: _are_reposts_muted,
    Condition.MUTED_CONTENT: _is_content_muted,
    Condition.MUTED_ACCOUNT: _is_account_muted,
    Condition.MUTED_THREAD: _is_thread_muted,
    Condition.HIDDEN_BY_VIEWER: _is_hidden_by_viewer,
    Condition.BELOW_HIDDEN_REPLY: _is_below_hidden_reply,
    Condition.NOT_SUBSCRIBABLE: _is_not_subscribable,
    Condition.GATED: _is_gated,
    Condition.SIGNED_OUT: _is_signed_out,
    Condition.HIDDEN_BY_GATE: _is_hidden_by_gate,
    Condition.PIN_MARK: _is_pin_mark,
    Condition.HIDDEN_REPLY: _is_hidden_reply,
    Condition.NOT_QUOTABLE: _is_not_quotable,
    Condition.DETACHED: _is_detached,
}
