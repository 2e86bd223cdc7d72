"""Rules that protect accounts: for each place, the reasons to hide an item and the
replacement. Every method and page reads this table.

The provider's own pages (`context.for_page`) have no client behind them. OPTED_OUT,
LABELLED and HIDDEN_REPLY hide there what clients hide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from appview.hydration.labels import account_subject
from appview.hydration.records import POST
from appview.hydration.self_labels import self_label_values
from appview.hydration.state import State, profile_address, quoted_uri
from appview.hydration.unrecommended import HIDE, NO_UNAUTHENTICATED, is_unrecommended
from feeds.skeleton import SkeletonItem
from storage.collections import FEED_POST
from storage.private.mutes import Mute
from storage.records.addresses import Address


class Place(Enum):
    """A kind of place that shows an account or a record."""

    PROFILE = auto()
    """getProfile, and the account of an author feed or of a list of follows."""
    ACTOR = auto()
    """An entry of getProfiles, requested by name."""
    ACTOR_HIT = auto()
    """A hit of searchActors or typeahead."""
    EXACT_HIT = auto()
    """A typeahead hit whose handle equals the search term."""
    SUGGESTION = auto()
    """An account that the provider suggests by itself, or one of a trend."""
    FOLLOW = auto()
    """An entry of getFollows or getFollowers, beside its subject."""
    LIKE = auto()
    """An entry of getLikes, beside the author of the post."""
    REPOSTER = auto()
    """An entry of getRepostedBy, or the account that reposted an item of its feed."""
    FEED_REPOSTER = auto()
    """The account that reposted an item of a feed or timeline."""
    POST = auto()
    """A post of getPosts or a hit of searchPosts."""
    FEED_ITEM = auto()
    """A post in a feed or timeline."""
    AUTHOR_ITEM = auto()
    """A post in an author feed, beside the account that reposted it."""
    REPLY_REF = auto()
    """Parent or root of a post in a feed, beside the author of the post."""
    ANCHOR = auto()
    """The post that a thread was requested by."""
    PARENT = auto()
    """A post above another one in a thread, beside the author of that one."""
    REPLY = auto()
    """A post below another one in a thread, beside the author of that one."""
    QUOTE = auto()
    """A record inside a post, beside the author of the post."""
    ANY_RECORD = auto()
    """A loaded record of any collection, found or listed."""
    NAMED = auto()
    """A feed generator, list or starter pack by itself."""
    NAMED_HIT = auto()
    """A feed generator, list or starter pack that a search found."""
    NAMED_SUGGESTION = auto()
    """A feed generator or starter pack that the provider suggests by itself."""


class Condition(Enum):
    """A reason against showing an item."""

    MISSING = auto()
    """The record was deleted or never seen."""
    GONE = auto()
    """The account is unknown, not active, taken down, or redacted by a labeler."""
    REDACTED = auto()
    """A labeler that the viewer accepts with `redact` has taken the record down."""
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
    """The viewer mutes the account, or its quotes and the record is one."""
    MUTED_REPOSTS = auto()
    """The viewer mutes the account or its reposts."""
    MUTED_CONTENT = auto()
    """The viewer mutes the account, but not the one beside it that reposted it."""
    GATED = auto()
    """The thread's gate does not let the account reply."""
    HIDDEN_REPLY = auto()
    """The author of the thread has hidden the reply (pages)."""
    NOT_QUOTABLE = auto()
    """The gate of the quoted post forbids quotes."""
    DETACHED = auto()
    """The author of the quoted post has detached this quote."""


class Effect(Enum):
    """The consequence of a condition that holds."""

    HIDE = auto()
    """Leave the item out."""
    NOT_FOUND = auto()
    """Show a notFoundPost or viewNotFound."""
    BLOCKED = auto()
    """Show a blockedPost or viewBlocked."""
    DETACH = auto()
    """Show a viewDetached."""
    REFUSE = auto()
    """Answer with an error."""


Rules = tuple[tuple[Condition, Effect], ...]


def _rules(effect: Effect, *conditions: Condition) -> Rules:
    return tuple((condition, effect) for condition in conditions)


_GONE = (Condition.GONE, Condition.OPTED_OUT, Condition.LABELLED)
_NO_RECORD = (Condition.MISSING, Condition.REDACTED, *_GONE)
_BLOCKS = (Condition.VIEWER_BLOCK, Condition.PARTY_BLOCK)
_UNWANTED = (Condition.VIEWER_BLOCK, Condition.MUTED, Condition.UNRECOMMENDED)

TABLE: Final[dict[Place, Rules]] = {
    Place.PROFILE: _rules(Effect.REFUSE, *_GONE),
    Place.ACTOR: _rules(Effect.HIDE, *_GONE),
    Place.ACTOR_HIT: _rules(Effect.HIDE, *_GONE, Condition.VIEWER_BLOCK),
    Place.SUGGESTION: _rules(Effect.HIDE, *_GONE, *_UNWANTED),
    Place.EXACT_HIT: _rules(Effect.HIDE, *_GONE),
    Place.FOLLOW: _rules(Effect.HIDE, *_GONE, *_BLOCKS),
    Place.LIKE: _rules(Effect.HIDE, *_GONE, *_BLOCKS),
    Place.REPOSTER: _rules(Effect.HIDE, *_GONE, Condition.VIEWER_BLOCK),
    Place.FEED_REPOSTER: _rules(
        Effect.HIDE, *_GONE, Condition.VIEWER_BLOCK, Condition.MUTED_REPOSTS
    ),
    Place.POST: _rules(Effect.HIDE, *_NO_RECORD, Condition.VIEWER_BLOCK),
    Place.FEED_ITEM: (
        *_rules(Effect.HIDE, *_NO_RECORD, Condition.VIEWER_BLOCK),
        *_rules(Effect.HIDE, Condition.ANCESTOR_BLOCK, Condition.MUTED),
    ),
    Place.AUTHOR_ITEM: _rules(
        Effect.HIDE, *_NO_RECORD, Condition.VIEWER_BLOCK, Condition.MUTED_CONTENT
    ),
    Place.REPLY_REF: (
        *_rules(Effect.NOT_FOUND, *_NO_RECORD),
        *_rules(Effect.BLOCKED, *_BLOCKS),
    ),
    Place.ANCHOR: (
        *_rules(Effect.NOT_FOUND, *_NO_RECORD),
        *_rules(Effect.BLOCKED, Condition.VIEWER_BLOCK),
    ),
    Place.PARENT: (
        *_rules(Effect.BLOCKED, Condition.PARTY_BLOCK),
        *_rules(Effect.NOT_FOUND, *_NO_RECORD),
        *_rules(Effect.BLOCKED, Condition.VIEWER_BLOCK),
    ),
    Place.REPLY: (
        *_rules(Effect.HIDE, Condition.GATED, Condition.PARTY_BLOCK, *_NO_RECORD),
        *_rules(Effect.HIDE, Condition.HIDDEN_REPLY),
        *_rules(Effect.BLOCKED, Condition.VIEWER_BLOCK),
    ),
    Place.QUOTE: (
        *_rules(Effect.BLOCKED, *_BLOCKS),
        *_rules(Effect.DETACH, Condition.NOT_QUOTABLE),
        *_rules(Effect.NOT_FOUND, *_NO_RECORD),
        *_rules(Effect.DETACH, Condition.DETACHED),
    ),
    Place.ANY_RECORD: _rules(
        Effect.HIDE, Condition.REDACTED, *_GONE, Condition.VIEWER_BLOCK
    ),
    Place.NAMED: _rules(Effect.HIDE, *_NO_RECORD),
    Place.NAMED_HIT: _rules(Effect.HIDE, *_NO_RECORD, Condition.VIEWER_BLOCK),
    Place.NAMED_SUGGESTION: _rules(Effect.HIDE, *_NO_RECORD, *_UNWANTED),
}
"""The first condition that holds decides; an item without one is shown."""


@dataclass(frozen=True, slots=True)
class Case:
    """An item in a place.

    `beside` is the account on the other side, `quoted_by` the quoting post.
    """

    actor: int
    record: Address | None = None
    beside: int | None = None
    quoted_by: Address | None = None


def _is_missing(state: State, case: Case) -> bool:
    record = case.record
    return record is not None and not (record in state.posts or record in state.named)


def is_gone(state: State, case: Case) -> bool:
    actor = state.actors.get(case.actor)
    return (
        actor is None
        or not actor.is_shown
        or state.is_redacted(account_subject(case.actor))
    )


def _is_redacted(state: State, case: Case) -> bool:
    return case.record is not None and state.is_redacted(case.record)


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
    found = None if actor is None else state.actors.get(actor)
    return state.session.mutes.get(found.did) if found else None


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


def _is_gated(state: State, case: Case) -> bool:
    return case.record is not None and state.restrictions.violates(case.record)


def _is_hidden_reply(state: State, case: Case) -> bool:
    post = state.posts.get(case.record) if case.record else None
    if not state.session.context.for_page or post is None or post.root is None:
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


_HOLDS: Final[dict[Condition, Callable[[State, Case], bool]]] = {
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
    Condition.GATED: _is_gated,
    Condition.HIDDEN_REPLY: _is_hidden_reply,
    Condition.NOT_QUOTABLE: _is_not_quotable,
    Condition.DETACHED: _is_detached,
}


def decide(state: State, place: Place, case: Case) -> Effect | None:
    """Return the effect of the first condition that holds; None if the item is
    shown."""
    found = find_rule(state, place, case)
    return None if found is None else found[1]


def find_rule(
    state: State, place: Place, case: Case
) -> tuple[Condition, Effect] | None:
    """Return the first condition that holds, with its effect."""
    for condition, effect in TABLE[place]:
        if _HOLDS[condition](state, case):
            return condition, effect
    return None


def decide_record(
    state: State,
    place: Place,
    record: Address,
    *,
    beside: int | None = None,
    quoted_by: Address | None = None,
) -> Effect | None:
    """Decide on a record; see `decide`."""
    return decide(state, place, Case(record.actor, record, beside, quoted_by))


def shown_actors(
    state: State, place: Place, actors: Iterable[int], *, beside: int | None = None
) -> list[int]:
    """Return the accounts that are shown, in order."""
    found = [*actors]
    if beside is not None:
        state.restrictions.load_pairs((beside, actor) for actor in found)
    return [a for a in found if decide(state, place, Case(a, beside=beside)) is None]


def shown_records(
    state: State, place: Place, records: Iterable[Address]
) -> list[Address]:
    """Return the records that are shown, in order."""
    return [r for r in records if decide_record(state, place, r) is None]


def shown_items(
    state: State, place: Place, items: Iterable[SkeletonItem]
) -> list[SkeletonItem]:
    """Return the feed items whose post and reposting account are shown."""
    reposter = Place.FEED_REPOSTER if place is Place.FEED_ITEM else Place.REPOSTER

    def is_shown(item: SkeletonItem) -> bool:
        by = item.repost.actor if item.repost else None
        if by is not None and decide(state, reposter, Case(by)) is not None:
            return False
        return decide_record(state, place, item.post, beside=by) is None

    return [item for item in items if is_shown(item)]
