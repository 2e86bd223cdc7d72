"""Planned records of two weeks: posts, replies, likes, follows, lists, feeds.

The same seed, end time and domains give the same records and keys, so that an
interrupted seeding can continue.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from demo.demo_accounts import make_accounts
from demo.phrases import TOPICS
from demo.pictures import draw_avatar, draw_landscape
from demo.plan import (
    Address,
    DemoAccount,
    DemoNetwork,
    DidOf,
    Draft,
    Json,
    Picture,
    StrongRef,
    UriOf,
)
from demo.text import Link, Mention, Part, Tag, compose
from feeds.registry import FEEDS
from protocol.syntax import tid_from_int
from storage.collections import (
    ACTOR_PROFILE,
    FEED_GENERATOR,
    FEED_LIKE,
    FEED_POST,
    FEED_POSTGATE,
    FEED_REPOST,
    FEED_THREADGATE,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
    GRAPH_LIST,
    GRAPH_LISTBLOCK,
    GRAPH_LISTITEM,
    GRAPH_STARTERPACK,
)

# A made-up lexicon: records of unknown lexicons are kept, linked and searched too.
BOOK_REVIEW = "org.example.bookshelf.review"

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_SPAN = 14 * _DAY
_SITES = ("field-notes.example.org", "slow-news.example.com", "almanac.example.net")


class Planner:
    """The drafts so far, and the clock that gives each its time and key."""

    def __init__(
        self,
        rng: random.Random,
        now_us: int,
        accounts: Sequence[DemoAccount],
        provider: str,
    ) -> None:
        self.rng = rng
        self.now = now_us
        self.accounts = accounts
        self.provider = provider
        self.drafts: list[Draft] = []
        self.times: dict[Address, int] = {}
        self._keys: set[tuple[int, str, int]] = set()
        self._fans = self._draw_followers()
        self.posts: list[Draft] = []
        self._views = [Picture(draw_landscape(rng)) for _ in range(12)]

    def write(
        self,
        account: int,
        collection: str,
        record: Json,
        *,
        at: int,
        turn: int = 0,
        rkey: str | None = None,
    ) -> Draft:
        """Plan a record at time `at` (microseconds); its key is that time's TID."""
        at = min(at, self.now)
        if rkey is None:
            while (account, collection, at) in self._keys:
                at -= 1
            self._keys.add((account, collection, at))
            rkey = tid_from_int(at << 10 | account)
        moment = datetime.fromtimestamp(at / 1_000_000, UTC)
        stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        address = Address(account, collection, rkey)
        record = {"$type": collection, **record, "createdAt": stamp}
        draft = Draft(address, record, turn)
        self.drafts.append(draft)
        self.times[address] = at
        return draft

    def some_time(self) -> int:
        return self.now - self.rng.randrange(_SPAN)

    def later(self, draft: Draft) -> int:
        """Return a time after `draft`, mostly within hours."""
        before = self.times[draft.address]
        delay = int(self.rng.expovariate(1 / (3 * _HOUR))) + 20_000_000
        return max(before + 1_000, min(before + delay, self.now - _HOUR // 60))

    def _draw_followers(self) -> dict[int, list[int]]:
        """Followed account -> followers: by language and topic, the popular first."""
        fans: dict[int, list[int]] = {account.number: [] for account in self.accounts}
        for account in self.accounts:
            weights = [
                0.0
                if other is account
                else other.weight
                * (4 if other.language is account.language else 1)
                * (2 if other.topic in (account.topic, account.other_topic) else 1)
                for other in self.accounts
            ]
            count = self.rng.randint(6, 15)
            chosen = set(self.rng.choices(range(len(weights)), weights, k=count))
            for followed in sorted(chosen):
                fans[followed].append(account.number)
        return fans

    def followers(self, account: int) -> list[int]:
        return self._fans[account]

    def write_profiles(self) -> None:
        for account in self.accounts:
            words = account.language.tags
            bio = account.language.bio.format(
                topic=words[account.topic], other=words[account.other_topic]
            )
            profile = {
                "displayName": account.display_name,
                "description": bio,
                "avatar": Picture(draw_avatar(self.rng)),
            }
            start = self.now - _SPAN - self.rng.randrange(_DAY)
            self.write(account.number, ACTOR_PROFILE, profile, at=start, rkey="self")

    def write_follows(self) -> None:
        for followed, fans in self._fans.items():
            for fan in fans:
                record: Json = {"subject": DidOf(followed)}
                self.write(fan, GRAPH_FOLLOW, record, at=self.some_time())
        for number in range(0, len(self.accounts), 9):
            other = self.rng.randrange(len(self.accounts))
            if other != number and number not in self._fans[other]:
                record = {"subject": DidOf(other)}
                self.write(number, GRAPH_BLOCK, record, at=self.some_time())

    def write_posts(self) -> None:
        for account in self.accounts:
            for _ in range(self.rng.randint(4, 7) + int(account.weight / 3)):
                self._post_once(account)

    def _post_once(self, account: DemoAccount) -> None:
        topic = self.rng.choice((account.topic, account.topic, account.other_topic))
        parts: list[Part] = [self._sentence(account, topic)]
        record: Json = {"langs": [account.language.code]}
        chance = self.rng.random()
        if chance < 0.10:
            page = (
                f"https://{self.rng.choice(_SITES)}/{topic}/{self.rng.randint(1, 90)}"
            )
            parts += [" ", Link(page.removeprefix("https://"), page)]
            record["embed"] = {
                "$type": "app.bsky.embed.external",
                "external": {
                    "uri": page,
                    "title": f"{account.language.tags[topic].capitalize()}",
                    "description": self._sentence(account, topic),
                },
            }
        elif chance < 0.14:
            record["embed"] = {
                "$type": "app.bsky.embed.images",
                "images": [
                    {
                        "image": self.rng.choice(self._views),
                        "alt": self._sentence(account, topic),
                        "aspectRatio": {"width": 160, "height": 90},
                    }
                ],
            }
        elif chance < 0.22:
            friend = self.accounts[
                self.rng.choice(self.followers(account.number) or [0])
            ]
            parts += [" ", Mention(friend.handle, friend.number)]
        if self.rng.random() < 0.35:
            parts += [" ", Tag(account.language.tags[topic])]
        record |= compose(parts)
        at = self.some_time()
        self.posts.append(self.write(account.number, FEED_POST, record, at=at))

    def _sentence(self, account: DemoAccount, topic: str) -> str:
        language = account.language
        return self.rng.choice(language.posts[topic]).format(
            thing=self.rng.choice(language.things[topic]),
            place=self.rng.choice(language.places),
            n=self.rng.randint(2, 19),
        )

    def _popular_posts(self, count: int) -> list[Draft]:
        weights = [
            self.accounts[draft.address.account].weight * self.rng.lognormvariate(0, 1)
            for draft in self.posts
        ]
        return self.rng.choices(self.posts, weights, k=count)

    def _audience(self, draft: Draft) -> int:
        """Return a reader of the post: mostly a follower, sometimes any account."""
        fans = self.followers(draft.address.account)
        if fans and self.rng.random() < 0.85:
            return self.rng.choice(fans)
        return self.rng.randrange(len(self.accounts))

    def write_replies(self, first: int, second: int) -> None:
        """Plan `first` replies to posts, then `second` replies to those, and quotes."""
        roots = {draft.address: draft for draft in self.posts}
        replies = [
            self._reply(parent, parent, 1) for parent in self._popular_posts(first)
        ]
        nested = []
        for parent in self.rng.sample(replies, min(second, len(replies))):
            root = roots[parent.record["reply"]["root"].address]
            nested.append(self._reply(root, parent, 2))
        self._quote(len(roots) // 9)
        self.posts += replies + nested

    def _reply(self, root: Draft, parent: Draft, turn: int) -> Draft:
        author = self.accounts[self._audience(parent)]
        words = self.rng.choice(author.language.replies)
        record = {
            **compose([words]),
            "langs": [author.language.code],
            "reply": {
                "root": StrongRef(root.address),
                "parent": StrongRef(parent.address),
            },
        }
        at = self.later(parent)
        return self.write(author.number, FEED_POST, record, at=at, turn=turn)

    def _quote(self, count: int) -> None:
        for quoted in self._popular_posts(count):
            author = self.accounts[self._audience(quoted)]
            record = {
                **compose([self.rng.choice(author.language.quotes)]),
                "langs": [author.language.code],
                "embed": {
                    "$type": "app.bsky.embed.record",
                    "record": StrongRef(quoted.address),
                },
            }
            self.write(author.number, FEED_POST, record, at=self.later(quoted), turn=1)

    def write_reactions(self, likes: int, reposts: int) -> None:
        for collection, count in ((FEED_LIKE, likes), (FEED_REPOST, reposts)):
            done: set[tuple[int, Address]] = set()
            for draft in self._popular_posts(count):
                fan = self._audience(draft)
                if (fan, draft.address) in done:
                    continue
                done.add((fan, draft.address))
                record = {"subject": StrongRef(draft.address)}
                turn, at = draft.round + 1, self.later(draft)
                self.write(fan, collection, record, at=at, turn=turn)

    def write_lists(self) -> None:
        """Plan lists and starter packs by topic, gates, feeds and book reviews."""
        for topic in TOPICS:
            members = [account for account in self.accounts if account.topic == topic]
            owner = max(members, key=lambda account: account.weight)
            names = {
                "app.bsky.graph.defs#curatelist": f"People of {topic}",
                "app.bsky.graph.defs#referencelist": f"Start with {topic}",
            }
            for purpose, name in names.items():
                record: Json = {"name": name, "purpose": purpose}
                made = self.write(owner.number, GRAPH_LIST, record, at=self.some_time())
                for member in self.rng.sample(members, min(14, len(members))):
                    item: Json = {
                        "list": UriOf(made.address),
                        "subject": DidOf(member.number),
                    }
                    at = self.times[made.address] + 1_000 * member.number
                    self.write(owner.number, GRAPH_LISTITEM, item, at=at)
            pack: Json = {
                "name": f"{topic.capitalize()} for beginners",
                "description": f"Ten people who write about {topic}.",
                "list": UriOf(made.address),
                "feeds": [{"uri": UriOf(Address(0, FEED_GENERATOR, "popular"))}],
            }
            self.write(owner.number, GRAPH_STARTERPACK, pack, at=self.some_time())
        quiet: Json = {
            "name": "Too loud for me",
            "purpose": "app.bsky.graph.defs#modlist",
        }
        made = self.write(2, GRAPH_LIST, quiet, at=self.some_time())
        for member in self.rng.sample(self.accounts[4:], 5):
            item = {"list": UriOf(made.address), "subject": DidOf(member.number)}
            self.write(2, GRAPH_LISTITEM, item, at=self.some_time())
        blocked: Json = {"subject": UriOf(made.address)}
        self.write(3, GRAPH_LISTBLOCK, blocked, at=self.some_time())
        self._gate_posts()
        self._publish_feeds()
        self._review_books()

    def _gate_posts(self) -> None:
        for draft in self.rng.sample([d for d in self.posts if not d.round], 24):
            account, rkey = draft.address.account, draft.address.rkey
            record: Json = {"post": UriOf(draft.address)}
            gates: tuple[tuple[str, Json], ...] = (
                (
                    FEED_THREADGATE,
                    {"allow": [{"$type": f"{FEED_THREADGATE}#followerRule"}]},
                ),
                (FEED_POSTGATE, {"embeddingRules": []}),
            )
            collection, extra = self.rng.choice(gates)
            at = self.times[draft.address]
            self.write(account, collection, {**record, **extra}, at=at, rkey=rkey)

    def _publish_feeds(self) -> None:
        for rkey, feed in FEEDS.items():
            record: Json = {
                "did": self.provider,
                "displayName": feed.display_name,
                "description": feed.description,
            }
            if feed.uses_feedback:
                record["acceptsInteractions"] = True
            at = self.now - _SPAN
            self.write(0, FEED_GENERATOR, record, at=at, rkey=rkey)

    def _review_books(self) -> None:
        readers = [p for p in self.accounts if "books" in (p.topic, p.other_topic)]
        for reader in readers:
            title = self.rng.choice(reader.language.things["books"])
            record: Json = {
                "title": title,
                "rating": self.rng.randint(2, 5),
                "text": self._sentence(reader, "books"),
                "recommendedTo": DidOf(self._audience(self.posts[reader.number])),
            }
            self.write(reader.number, BOOK_REVIEW, record, at=self.some_time())


def plan_network(
    *, seed: int, now_us: int, domains: Sequence[str], provider: str
) -> DemoNetwork:
    """Plan all accounts and their records of the two weeks before `now_us`.

    `domains` are the handle suffixes of the servers, `provider` is the DID of the
    service of the feeds.
    """
    rng = random.Random(seed)
    planner = Planner(rng, now_us, make_accounts(rng, domains), provider)
    planner.write_profiles()
    planner.write_follows()
    planner.write_posts()
    planner.write_replies(900, 350)
    planner.write_reactions(2_600, 350)
    planner.write_lists()
    drafts = sorted(planner.drafts, key=lambda draft: planner.times[draft.address])
    return DemoNetwork(tuple(planner.accounts), tuple(drafts))
