"""Rows loaded for one answer. Each `load_*` is one bulk query of new items."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from appview.hydration.account_marks import AccountMarks
from appview.hydration.actors import (
    Actor,
    Relation,
    has_no_profile,
    load_actors,
    load_relations,
    without_profiles,
)
from appview.hydration.cards import Cards
from appview.hydration.known_followers import load_known_of
from appview.hydration.labels import Label, account_subject, load_labels
from appview.hydration.muting_lists import load_muting_lists
from appview.hydration.records import (
    GENERATOR,
    LABELER,
    LIST,
    POST,
    STARTER_PACK,
    Named,
    Post,
    Reaction,
    Record,
    Repost,
    load_named,
    load_own_records,
    load_posts,
    load_reactions,
    load_records,
    load_reposts,
)
from appview.hydration.references import JOINED_VIA, quoted_uri, reference_uri
from appview.hydration.restrictions import Restrictions
from appview.hydration.thread_context import ThreadContext
from appview.own_feeds import find_feed_addresses, load_own_feeds, own_actors
from appview.session import Session
from feeds.skeleton import SkeletonItem
from protocol.data.cid import cid_to_text
from protocol.syntax import tid_from_int
from storage.collections import (
    ACTOR_PROFILE,
    ACTOR_STATUS,
    COLLECTION_IDS,
    RKEY_SELF,
)
from storage.records.addresses import (
    Address,
    find_addresses,
    name_addresses_in,
    name_rkeys,
)
from storage.records.record_allowance import Allowance

NSIDS: Final = {number: nsid for nsid, number in COLLECTION_IDS.items()}
_NAMED = frozenset({GENERATOR, LIST, STARTER_PACK, LABELER})
MAX_QUOTES: Final = 2
"""Levels of quotes: a post, the one it quotes, and the one quoted there."""
MAX_REPEATED_BYTES: Final = 4_000_000
"""Bytes of records that an answer repeats inside other views."""
MAX_PROFILE_BYTES: Final = 2_000_000
MAX_PROFILE_ITEMS: Final = 100_000
MAX_ANSWER_BYTES: Final = 4_000_000
MAX_ANSWER_ITEMS: Final = 300_000
REDACTING_LABELS = frozenset({"!takedown", "!suspend"})


def profile_address(actor: int) -> Address:
    """Return the address of an account's profile record."""
    return Address(actor, COLLECTION_IDS[ACTOR_PROFILE], RKEY_SELF)


def answer_allowance() -> Allowance:
    """Return the allowance of records for one answer: at worst 100 MB of memory."""
    return Allowance(MAX_ANSWER_BYTES, MAX_ANSWER_ITEMS)


class State:
    """The loaded rows of one request, by address or actor id."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.allowance = answer_allowance()
        # Apart, so that profiles do not use up the allowance of records.
        self.profile_allowance = Allowance(MAX_PROFILE_BYTES, MAX_PROFILE_ITEMS)
        self.repeats_left = MAX_REPEATED_BYTES
        self.restrictions = Restrictions(self)
        self._together = 0
        # Loaded at the end of `together`: accounts, reactions to records, CIDs of
        # subjects of labels, and AT-URIs.
        self._wanted_actors: set[int] = set()
        self._wanted_reactions: set[Address] = set()
        self._wanted_labels: dict[Address, str | None] = {}
        self._wanted_names: set[Address] = set()
        self.thread = ThreadContext()
        self.cards = Cards()
        self.loaded_actors: set[int] = set()
        self.actors: dict[int, Actor] = {}
        self.relations: dict[int, Relation] = {}
        # Followers whom the viewer follows, of accounts that show them.
        self.known_followers: dict[int, list[int]] = {}
        # Muted lists of the viewer, by an account in them.
        self.muting_lists: dict[int, Address] = {}
        self.posts: dict[Address, Post] = {}
        # Levels of quotes loaded below a post.
        self.quoted_to: dict[Address, int] = {}
        self.named: dict[Address, Named] = {}
        # Some members of loaded lists: record key and account.
        self.members: dict[Address, list[tuple[int, int]]] = {}
        self.records: dict[Address, Record] = {}
        self.declarations: dict[tuple[int, str], Record] = {}
        self.marks = AccountMarks()
        self.reposts: dict[Address, Repost] = {}
        self.reactions: dict[Address, Reaction] = {}
        self.labels: dict[Address, list[Label]] = {}
        self.uris: dict[Address, str] = {}
        self.by_uri: dict[str, Address] = {}
        self.rkeys: dict[int, str] = {}

    @contextmanager
    def together(self) -> Iterator[None]:
        """Load accounts, reactions, labels and AT-URIs at the end of the block.

        Inside, they are not there yet.
        """
        self._together += 1
        try:
            yield
            if self._together == 1:
                while self._wanted_actors:
                    self._load_wanted_actors()
                self._load_wanted_reactions()
                self._load_wanted_labels()
                self._load_wanted_names()
        finally:
            self._together -= 1

    def load_posts(
        self, addresses: Iterable[Address], *, quotes: int = MAX_QUOTES
    ) -> None:
        """Load posts with authors, labels, the viewer's reactions, and quoted records.

        `quotes` is the number of levels of quotes.
        """
        wanted = {a for a in addresses if a.collection == POST}
        with self.together():
            self._load_posts(wanted - self.posts.keys())
            # Posts first loaded as quotes need quotes of their own now.
            held = wanted & self.posts.keys()
            shallow = {a for a in held if self.quoted_to[a] < quotes}
            if shallow:
                self.quoted_to |= dict.fromkeys(shallow, quotes)
                self._load_quoted([self.posts[a] for a in shallow], quotes - 1)

    def _load_posts(self, wanted: set[Address]) -> None:
        if not wanted:
            return
        conn = self.session.conn
        found = load_posts(conn, wanted, self.allowance)
        self.quoted_to |= dict.fromkeys(found, 0)
        self.posts |= found
        self._load_reactions(found)
        self.name(found)
        self._load_labels({a: post.record.cid for a, post in found.items()})
        self.load_actors(a.actor for a in found)
        self.cards.load(self, found.values())

    def load_actors(self, ids: Iterable[int]) -> None:
        """Load accounts, their profiles and labels, and the viewer's follows."""
        with self.together():
            self._wanted_actors |= set(ids) - self.loaded_actors

    def _load_wanted_actors(self) -> None:
        wanted, self._wanted_actors = self._wanted_actors, set()
        self.loaded_actors |= wanted
        conn = self.session.conn
        fresh = wanted - self.actors.keys()
        found = load_actors(conn, fresh)
        self.actors |= own_actors(self.session.app, fresh, found)
        self.actors |= without_profiles(self.session.taken_down, found.values())
        if self.session.viewer_actor is not None:
            relations = load_relations(conn, self.session.viewer_actor, wanted)
            self.relations |= relations
            self.name_rkeys(
                key
                for found in relations.values()
                for key in (found.following, found.followed_by)
            )
        muting = load_muting_lists(self.session, wanted)
        self.muting_lists |= muting
        self.load_lists(muting.values())
        profiles, declarations = load_own_records(conn, wanted, self.profile_allowance)
        profiles = {
            a: record
            for a, record in profiles.items()
            if not has_no_profile(self.session.taken_down, self.actors[a.actor].did)
        }
        self.records |= profiles
        self.declarations |= declarations
        self.marks.load(self, wanted)
        statuses = (r for (_, name), r in declarations.items() if name == ACTOR_STATUS)
        versions = {r.address: r.cid for r in (*profiles.values(), *statuses)}
        self._wanted_labels |= dict.fromkeys(map(account_subject, wanted)) | versions

    def profile_record(self, actor: int) -> Record | None:
        """Return the profile record of a loaded account."""
        return self.records.get(profile_address(actor))

    def load_profiles(self, ids: Iterable[int]) -> None:
        """Load accounts with everything in a detailed profile."""
        wanted = [*ids]
        with self.together():
            self.load_actors(wanted)
            load_known_of(self, wanted)
        records = filter(None, map(self.profile_record, wanted))
        uris = {uri for r in records if (uri := reference_uri(r, JOINED_VIA))}
        self.by_uri |= find_addresses(self.session.conn, uris)
        self.load_named(self.by_uri[uri] for uri in uris if uri in self.by_uri)

    def load_named(self, addresses: Iterable[Address]) -> None:
        """Load feed generators, lists, starter packs and labelers with their creators.

        The viewer's likes and blocks of them are loaded too.
        """
        wanted = {a for a in addresses if a.collection in _NAMED}
        with self.together():
            self._load_named(wanted - self.named.keys())
            self.load_actors(a.actor for a in wanted if a in self.named)

    def load_lists(self, addresses: Iterable[Address]) -> None:
        """Load lists of blocks and gates, without relations to their owners."""
        wanted = {a for a in addresses if a.collection == LIST} - self.named.keys()
        self._load_named(wanted)
        owners = {a.actor for a in wanted if a in self.named} - self.actors.keys()
        if owners:
            self.actors |= load_actors(self.session.conn, owners)

    def _load_named(self, wanted: set[Address]) -> None:
        if not wanted:
            return
        conn = self.session.conn
        found = load_named(conn, wanted, self.allowance)
        own, uris = load_own_feeds(self.session, wanted - found.keys())
        self.uris |= uris
        found |= own
        self.named |= found
        self._load_reactions(found)
        self.name(found)
        self._load_labels({a: named.record.cid for a, named in found.items()})

    def _load_reactions(self, addresses: Collection[Address]) -> None:
        viewer = self.session.viewer_actor
        if viewer is not None:
            with self.together():
                self._wanted_reactions.update(addresses)

    def _load_wanted_reactions(self) -> None:
        wanted, self._wanted_reactions = self._wanted_reactions, set()
        viewer = self.session.viewer_actor
        if viewer is not None and wanted:
            found = load_reactions(self.session.conn, viewer, wanted)
            self.reactions |= found
            self.name_rkeys(k for r in found.values() for k in r)

    def load_records(self, addresses: Iterable[Address], *, name: bool = True) -> None:
        """Load records of any collection, and by default their AT-URIs."""
        wanted = set(addresses) - self.records.keys()
        if wanted:
            found = load_records(self.session.conn, wanted, self.allowance)
            self.records |= found
            if name:
                self.name(found)

    def load_record_labels(self, addresses: Iterable[Address]) -> None:
        """Load the labels of loaded records."""
        self._load_labels(
            {a: self.records[a].cid for a in addresses if a in self.records}
        )

    def _load_labels(self, subjects: Mapping[Address, str | None]) -> None:
        """Load the accepted labelers' labels. `subjects` gives the CID that is
        shown."""
        with self.together():
            self._wanted_labels |= subjects

    def _load_wanted_labels(self) -> None:
        subjects, self._wanted_labels = self._wanted_labels, {}
        dids = self.session.context.labelers.dids
        if not subjects or not dids:
            return
        found = load_labels(self.session.conn, dids, subjects)
        for subject, labels in found.items():
            version = subjects[subject]
            self.labels[subject] = [
                label
                for label in labels
                if not label.cid or cid_to_text(label.cid) == version
            ]

    def _load_quoted(self, posts: Iterable[Post], quotes: int) -> None:
        uris = {uri for post in posts if (uri := quoted_uri(post.record.value))}
        self.by_uri |= find_feed_addresses(self.session, uris)
        quoted = [self.by_uri[uri] for uri in uris if uri in self.by_uri]
        self.load_posts(quoted, quotes=quotes)
        self.load_named(quoted)

    def name(self, addresses: Iterable[Address]) -> None:
        """Load the AT-URIs of addresses, also of missing records."""
        with self.together():
            self._wanted_names.update(a for a in addresses if a not in self.uris)

    def _load_wanted_names(self) -> None:
        wanted, self._wanted_names = self._wanted_names, set()
        unknown = []
        for address in wanted:
            # Nearly all have a TID for a key, and an account that is loaded.
            actor, nsid = self.actors.get(address.actor), NSIDS.get(address.collection)
            if actor is None or nsid is None or address.rkey <= 0:
                unknown.append(address)
            else:
                key = tid_from_int(address.rkey)
                self.uris[address] = f"at://{actor.did}/{nsid}/{key}"
        if unknown:
            self.uris |= name_addresses_in(self.session.conn, unknown)

    def name_rkeys(self, numbers: Iterable[int | None]) -> None:
        """Load the texts of record keys that are not TIDs."""
        fresh = {n for n in numbers if n is not None and n <= 0} - self.rkeys.keys()
        if fresh:
            self.rkeys |= name_rkeys(self.session.conn, fresh)

    def load_feed(self, items: Iterable[SkeletonItem]) -> None:
        """Load the posts of a feed, their parents and roots, and the reposting
        accounts."""
        entries = [*items]
        with self.together():
            self.load_posts(item.post for item in entries)
            posts = [self.posts[i.post] for i in entries if i.post in self.posts]
            above = {a for p in posts for a in (p.parent, p.root) if a is not None}
            self.load_posts(above)
            self.name(above)
            parents = [self.posts[p.parent] for p in posts if p.parent in self.posts]
            self.load_actors(p.parent.actor for p in parents if p.parent is not None)
            self.load_reposts(entries)

    def load_reposts(self, items: Iterable[SkeletonItem]) -> None:
        """Load reposts of feed entries and their accounts."""
        reposts = {item.repost: item.post for item in items if item.repost}
        if reposts:
            self.reposts |= load_reposts(self.session.conn, reposts, self.allowance)
            self.name(reposts)
            self.load_actors(repost.actor for repost in reposts)

    def quoted(self, post: Post) -> Address | None:
        """Return the address of the record that a loaded post embeds."""
        uri = quoted_uri(post.record.value)
        return self.by_uri.get(uri) if uri else None

    def take_repeat(self, record: Record) -> bool:
        """Take room for a record inside the view of another; return False if none is
        left.

        A thousand posts may quote the same large one.
        """
        if record.size > self.repeats_left:
            return False
        self.repeats_left -= record.size
        return True

    def is_taken_down(self, record: Address) -> bool:
        """Return True if our operator took the record down."""
        taken = self.session.taken_down
        actor = self.actors.get(record.actor)
        if actor is None or actor.did not in taken.authors:
            return False
        self.name([record])
        return self.uris.get(record) in taken.records

    def is_redacted(self, subject: Address) -> bool:
        """Return True if an accepted labeler with `redact` took the subject down."""
        redact = self.session.context.labelers.redact
        return any(
            label.val in REDACTING_LABELS and label.src in redact
            for label in self.labels.get(subject, ())
        )
