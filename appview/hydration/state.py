"""Everything loaded for one answer. Each `load_*` is one bulk query of what is new."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from appview.hydration.actors import Actor, Relation, load_actors, load_relations
from appview.hydration.labels import Label, account_subject, load_labels
from appview.hydration.records import (
    GENERATOR,
    LIST,
    POST,
    STARTER_PACK,
    Named,
    Post,
    Reaction,
    Record,
    load_named,
    load_posts,
    load_reactions,
    load_records,
)
from appview.hydration.standing import Standing
from appview.own_feeds import (
    find_feed_addresses,
    load_own_feeds,
    own_actors,
)
from appview.session import Session
from feeds.skeleton import SkeletonItem
from storage.addresses import name_addresses_in, name_rkeys
from storage.collections import ACTOR_PROFILE, COLLECTION_IDS, RKEY_SELF
from storage.documents import Address
from storage.record_allowance import Allowance

_NAMED = frozenset({GENERATOR, LIST, STARTER_PACK})
MAX_ANSWER_BYTES: Final = 4_000_000
MAX_ANSWER_ITEMS: Final = 300_000
MAX_PROFILE_BYTES: Final = 2_000_000
MAX_PROFILE_ITEMS: Final = 100_000
REDACTING_LABELS = frozenset({"!takedown", "!suspend"})


def profile_address(actor: int) -> Address:
    """Where an account's profile record is."""
    return Address(actor, COLLECTION_IDS[ACTOR_PROFILE], RKEY_SELF)


def answer_allowance() -> Allowance:
    """What one answer may hold of records: a hundred MB of memory at the worst."""
    return Allowance(MAX_ANSWER_BYTES, MAX_ANSWER_ITEMS)


class State:
    """The loaded rows of one request, by address or actor id."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.allowance = answer_allowance()
        self.profile_allowance = Allowance(MAX_PROFILE_BYTES, MAX_PROFILE_ITEMS)
        self.standing = Standing(self)
        self.asked_actors: set[int] = set()
        self.actors: dict[int, Actor] = {}
        self.relations: dict[int, Relation] = {}
        self.posts: dict[Address, Post] = {}
        self.named: dict[Address, Named] = {}
        self.records: dict[Address, Record] = {}
        self.reactions: dict[Address, Reaction] = {}
        self.labels: dict[Address, list[Label]] = {}
        self.uris: dict[Address, str] = {}
        self.by_uri: dict[str, Address] = {}
        self.rkeys: dict[int, str] = {}

    # loading

    def load_posts(self, addresses: Iterable[Address], *, embeds: bool = True) -> None:
        """Posts with authors, labels and the viewer's reactions; with `embeds` the
        records that they quote as well, one level deep."""
        wanted = {a for a in addresses if a.collection == POST} - self.posts.keys()
        if not wanted:
            return
        conn = self.session.conn
        found = load_posts(conn, wanted, self.allowance)
        self.posts |= found
        if self.session.viewer_actor is not None and found:
            reactions = load_reactions(conn, self.session.viewer_actor, found.keys())
            self.reactions |= reactions
            self.name_rkeys(k for r in reactions.values() for k in (r.like, r.repost))
        self.name(found)
        self.load_labels(found)
        self.load_actors(a.actor for a in found)
        if embeds:
            self._load_quoted(found.values())

    def load_actors(self, ids: Iterable[int]) -> None:
        """Accounts, their profiles and labels, and how the viewer stands to them."""
        wanted = set(ids) - self.asked_actors
        if not wanted:
            return
        self.asked_actors |= wanted
        conn = self.session.conn
        fresh = wanted - self.actors.keys()
        found = load_actors(conn, fresh)
        self.actors |= own_actors(self.session.app, fresh, found)
        if self.session.viewer_actor is not None:
            relations = load_relations(conn, self.session.viewer_actor, wanted)
            self.relations |= relations
            self.name_rkeys(
                key
                for found in relations.values()
                for key in (found.following, found.followed_by)
            )
        profiles = {profile_address(actor) for actor in wanted}
        self.records |= load_records(
            conn, profiles - self.records.keys(), self.profile_allowance
        )
        self.load_labels({account_subject(actor) for actor in wanted} | profiles)

    def load_named(self, addresses: Iterable[Address]) -> None:
        """Feed generators, lists and starter packs with their creators."""
        asked = {a for a in addresses if a.collection in _NAMED}
        wanted = asked - self.named.keys()
        if wanted:
            found = load_named(self.session.conn, wanted, self.allowance)
            own, uris = load_own_feeds(self.session, wanted - found.keys())
            self.uris |= uris
            found |= own
            self.named |= found
            self.name(found)
            self.load_labels(found)
        self.load_actors(a.actor for a in asked if a in self.named)

    def load_lists(self, addresses: Iterable[Address]) -> None:
        """Lists that stand for a block or a rule, without how the viewer stands to
        their owners."""
        wanted = {a for a in addresses if a.collection == LIST} - self.named.keys()
        if not wanted:
            return
        conn = self.session.conn
        found = load_named(conn, wanted, self.allowance)
        self.named |= found
        self.name(found)
        self.load_labels(found)
        self.actors |= load_actors(conn, {a.actor for a in found} - self.actors.keys())

    def load_records(self, addresses: Iterable[Address]) -> None:
        """Bare records of any collection."""
        wanted = set(addresses) - self.records.keys()
        if wanted:
            found = load_records(self.session.conn, wanted, self.allowance)
            self.records |= found
            self.name(found)

    def load_labels(self, subjects: Iterable[Address]) -> None:
        """Labels of the accepted labelers on these subjects."""
        wanted = [*subjects]
        if wanted and self.session.labelers:
            self.labels |= load_labels(self.session.conn, self.session.labelers, wanted)

    def _load_quoted(self, posts: Iterable[Post]) -> None:
        uris = {uri for post in posts if (uri := quoted_uri(post.record.value))}
        self.by_uri |= find_feed_addresses(self.session, uris)
        quoted = [self.by_uri[uri] for uri in uris if uri in self.by_uri]
        self.load_posts(quoted, embeds=False)
        self.load_named(quoted)

    def name(self, addresses: Iterable[Address]) -> None:
        """AT-URIs of addresses, also of records that are not here."""
        fresh = [a for a in addresses if a not in self.uris]
        if fresh:
            self.uris |= name_addresses_in(self.session.conn, fresh)

    def name_rkeys(self, numbers: Iterable[int | None]) -> None:
        """Load the texts of record keys that are no TIDs."""
        fresh = {n for n in numbers if n is not None and n <= 0} - self.rkeys.keys()
        if fresh:
            self.rkeys |= name_rkeys(self.session.conn, fresh)

    def load_feed(self, items: Iterable[SkeletonItem]) -> None:
        """Posts of a feed, the posts they answer, and the accounts that reposted."""
        entries = [*items]
        self.load_posts(item.post for item in entries)
        posts = [self.posts[i.post] for i in entries if i.post in self.posts]
        above = {a for p in posts for a in (p.parent, p.root) if a is not None}
        self.load_posts(above)
        self.name(above)
        self.load_actors(item.repost.actor for item in entries if item.repost)
        self.name_rkeys(item.repost.rkey for item in entries if item.repost)

    def quoted(self, post: Post) -> Address | None:
        """The address of the record that a loaded post embeds."""
        uri = quoted_uri(post.record.value)
        return self.by_uri.get(uri) if uri else None

    def is_redacted(self, subject: Address) -> bool:
        """Whether an accepted labeler has taken the subject down."""
        labels = self.labels.get(subject, ())
        return any(label.val in REDACTING_LABELS for label in labels)


def quoted_uri(post: dict[str, Any]) -> str | None:
    """The AT-URI of the record that a post embeds, with or without media."""
    embed = post.get("embed")
    for _ in range(2):  # recordWithMedia holds an embed.record in `record`
        embed = embed.get("record") if isinstance(embed, dict) else None
        if isinstance(embed, dict) and isinstance(embed.get("uri"), str):
            uri: str = embed["uri"]
            return uri
    return None
