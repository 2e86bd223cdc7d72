"""Rules that protect accounts: for each place, the reasons to hide an item and the
replacement. Every method and page reads this table.

The provider's own pages (`context.for_page`) have no client behind them. OPTED_OUT,
LABELLED and HIDDEN_REPLY hide there what clients hide.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

from appview.hydration.state import State
from appview.rule_checks import HOLDS, Case, Condition
from feeds.skeleton import SkeletonItem
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
    MEMBER = auto()
    """A member of a list, beside the owner of a list that is not for moderation."""
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
    LIST_FEED_ITEM = auto()
    """A post in the feed of a list, beside the owner of the list."""
    QUOTING = auto()
    """A quote in getQuotes, beside the author of the quoted post."""
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
    ITEM_ANCHOR = auto()
    """The post that a flat thread (getPostThreadV2) was requested by."""
    ITEM_PARENT = auto()
    """A post above another one in a flat thread, beside the author of that one."""
    ITEM_REPLY = auto()
    """A post below another one in a flat thread, beside the author of that one."""
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
    NOTICE = auto()
    """The record of a notification."""
    NOTICE_REPLY = auto()
    """A reply that notifies the account of its parent or of another ancestor."""
    NOTICE_SUBSCRIBED = auto()
    """A post of an account that the viewer has subscribed to."""
    NOTICE_SUBJECT = auto()
    """The viewer's record that a notification is about."""
    NOTICE_QUOTED = auto()
    """The viewer's post that a quote notifies of."""


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
    WITHHOLD = auto()
    """Show a threadItemNoUnauthenticated."""
    OTHER = auto()
    """Show the reply among the other replies of its thread only."""
    REFUSE = auto()
    """Answer with an error."""


Rules = tuple[tuple[Condition, Effect], ...]


def _rules(effect: Effect, *conditions: Condition) -> Rules:
    return tuple((condition, effect) for condition in conditions)


_GONE = (Condition.GONE, Condition.OPTED_OUT, Condition.LABELLED)
_NO_RECORD = (Condition.MISSING, Condition.REDACTED, *_GONE)
_BLOCKS = (Condition.VIEWER_BLOCK, Condition.PARTY_BLOCK)
_FEED_ITEM = (
    *(*_NO_RECORD, Condition.VIEWER_BLOCK),
    *(Condition.ANCESTOR_BLOCK, Condition.MUTED),
)
_UNWANTED = (Condition.VIEWER_BLOCK, Condition.MUTED, Condition.UNRECOMMENDED)

TABLE: Final[dict[Place, Rules]] = {
    Place.PROFILE: _rules(Effect.REFUSE, *_GONE),
    Place.ACTOR: _rules(Effect.HIDE, *_GONE),
    Place.ACTOR_HIT: _rules(Effect.HIDE, *_GONE, Condition.VIEWER_BLOCK),
    Place.SUGGESTION: _rules(Effect.HIDE, *_GONE, *_UNWANTED),
    Place.EXACT_HIT: _rules(Effect.HIDE, *_GONE),
    Place.FOLLOW: _rules(Effect.HIDE, *_GONE, *_BLOCKS),
    Place.MEMBER: _rules(Effect.HIDE, *_GONE, Condition.PARTY_BLOCK),
    Place.LIKE: _rules(Effect.HIDE, *_GONE, *_BLOCKS),
    Place.REPOSTER: _rules(Effect.HIDE, *_GONE, Condition.VIEWER_BLOCK),
    Place.FEED_REPOSTER: _rules(
        Effect.HIDE, *_GONE, Condition.VIEWER_BLOCK, Condition.MUTED_REPOSTS
    ),
    Place.POST: _rules(Effect.HIDE, *_NO_RECORD, Condition.VIEWER_BLOCK),
    Place.FEED_ITEM: _rules(Effect.HIDE, *_FEED_ITEM),
    Place.LIST_FEED_ITEM: _rules(Effect.HIDE, *_FEED_ITEM, Condition.PARTY_BLOCK),
    Place.QUOTING: _rules(Effect.HIDE, *_NO_RECORD, *_BLOCKS),
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
    Place.ITEM_ANCHOR: (
        *_rules(Effect.NOT_FOUND, *_NO_RECORD),
        *_rules(Effect.BLOCKED, Condition.VIEWER_BLOCK),
        *_rules(Effect.WITHHOLD, Condition.SIGNED_OUT),
    ),
    Place.ITEM_PARENT: (
        *_rules(Effect.NOT_FOUND, *_NO_RECORD),
        *_rules(Effect.BLOCKED, *_BLOCKS),
        *_rules(Effect.WITHHOLD, Condition.SIGNED_OUT),
    ),
    Place.ITEM_REPLY: (
        *_rules(Effect.HIDE, Condition.GATED, *_NO_RECORD, *_BLOCKS),
        *_rules(Effect.HIDE, Condition.SIGNED_OUT),
        *_rules(Effect.OTHER, Condition.HIDDEN_BY_GATE, Condition.MUTED_ACCOUNT),
        *_rules(Effect.OTHER, Condition.PIN_MARK),
    ),
    Place.QUOTE: (
        *_rules(Effect.BLOCKED, *_BLOCKS),
        *_rules(Effect.DETACH, Condition.NOT_QUOTABLE),
        *_rules(Effect.NOT_FOUND, *_NO_RECORD),
        *_rules(Effect.DETACH, Condition.DETACHED),
    ),
    Place.ANY_RECORD: _rules(Effect.HIDE, *_NO_RECORD[1:], Condition.VIEWER_BLOCK),
    Place.NAMED: _rules(Effect.HIDE, *_NO_RECORD),
    Place.NAMED_HIT: _rules(Effect.HIDE, *_NO_RECORD, Condition.VIEWER_BLOCK),
    Place.NAMED_SUGGESTION: _rules(Effect.HIDE, *_NO_RECORD, *_UNWANTED),
    Place.NOTICE: _rules(
        Effect.HIDE, *_NO_RECORD, Condition.VIEWER_BLOCK, Condition.MUTED_ACCOUNT
    ),
    Place.NOTICE_REPLY: _rules(
        Effect.HIDE,
        Condition.GATED,
        Condition.HIDDEN_BY_VIEWER,
        Condition.BELOW_HIDDEN_REPLY,
    ),
    Place.NOTICE_SUBSCRIBED: _rules(Effect.HIDE, Condition.NOT_SUBSCRIBABLE),
    Place.NOTICE_SUBJECT: _rules(
        Effect.HIDE, Condition.MISSING, Condition.MUTED_THREAD
    ),
    Place.NOTICE_QUOTED: _rules(Effect.HIDE, Condition.NOT_QUOTABLE),
}
"""The first condition that holds decides; an item without one is shown."""


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
        if HOLDS[condition](state, case):
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
    state: State,
    place: Place,
    records: Iterable[Address],
    *,
    beside: int | None = None,
) -> list[Address]:
    """Return the records that are shown, in order."""
    found = [*records]
    if beside is not None:
        state.restrictions.load_pairs((beside, record.actor) for record in found)
    return [r for r in found if decide_record(state, place, r, beside=beside) is None]


def shown_items(
    state: State, place: Place, items: Iterable[SkeletonItem]
) -> list[SkeletonItem]:
    """Return the feed items whose post and reposting account are shown."""
    reposter = Place.FEED_REPOSTER if place is Place.FEED_ITEM else Place.REPOSTER

    def is_shown(item: SkeletonItem) -> bool:
        if item.repost is not None and state.is_taken_down(item.repost):
            return False
        by = item.repost.actor if item.repost else None
        if by is not None and decide(state, reposter, Case(by)) is not None:
            return False
        return decide_record(state, place, item.post, beside=by) is None

    return [item for item in items if is_shown(item)]
