"""What the people do in two weeks: posts, answers, likes, follows, lists, feeds.

Deterministic: the same seed, end of time and domains give the same records under the
same keys, so that an interrupted seeding can go on where it stopped.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from demo.accounts import gather_people
from demo.phrases import TOPICS
from demo.pictures import draw_avatar, draw_landscape
from demo.plan import (
    Address,
    DidOf,
    Draft,
    Json,
    Person,
    Picture,
    Society,
    StrongRef,
    UriOf,
)
from demo.text import (
    Link,
    Mention,
    Part,
    Tag,
    compose,
)
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

# A lexicon that nobody has ever heard of: kept, linked and searched all the same.
BOOK_REVIEW = "org.example.bookshelf.review"

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_SPAN = 14 * _DAY
_SITES = ("field-notes.example.org", "slow-news.example.com", "almanac.example.net")


class _Life:
    """The drafts so far, and the clock that gives each record its time and key."""

    def __init__(
        self, rng: random.Random, now_us: int, people: Sequence[Person], provider: str
    ) -> None:
        self.rng = rng
        self.now = now_us
        self.people = people
        self.provider = provider
        self.drafts: list[Draft] = []
        self.times: dict[Address, int] = {}
        self._keys: set[tuple[int, str, int]] = set()
        self._fans = self._draw_followers()
        self.posts: list[Draft] = []
        self._views = [Picture(draw_landscape(rng)) for _ in range(12)]

    def write(
        self,
        person: int,
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
            while (person, collection, at) in self._keys:
                at -= 1
            self._keys.add((person, collection, at))
            rkey = tid_from_int(at << 10 | person)
        moment = datetime.fromtimestamp(at / 1_000_000, UTC)
        stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        address = Address(person, collection, rkey)
        record = {"$type": collection, **record, "createdAt": stamp}
        draft = Draft(address, record, turn)
        self.drafts.append(draft)
        self.times[address] = at
        return draft

    def some_time(self) -> int:
        return self.now - self.rng.randrange(_SPAN)

    def later(self, draft: Draft) -> int:
        """A moment after `draft`, mostly within hours."""
        before = self.times[draft.address]
        delay = int(self.rng.expovariate(1 / (3 * _HOUR))) + 20_000_000
        return max(before + 1_000, min(before + delay, self.now - _HOUR // 60))

    def _draw_followers(self) -> dict[int, list[int]]:
        """Followed person -> followers: by language and topic, the popular first."""
        fans: dict[int, list[int]] = {person.number: [] for person in self.people}
        for person in self.people:
            weights = [
                0.0
                if other is person
                else other.weight
                * (4 if other.speech is person.speech else 1)
                * (2 if other.topic in (person.topic, person.other_topic) else 1)
                for other in self.people
            ]
            count = self.rng.randint(6, 15)
            chosen = set(self.rng.choices(range(len(weights)), weights, k=count))
            for followed in sorted(chosen):
                fans[followed].append(person.number)
        return fans

    def followers(self, person: int) -> list[int]:
        return self._fans[person]

    def present_themselves(self) -> None:
        for person in self.people:
            words = person.speech.tags
            bio = person.speech.bio.format(
                topic=words[person.topic], other=words[person.other_topic]
            )
            profile = {
                "displayName": person.display_name,
                "description": bio,
                "avatar": Picture(draw_avatar(self.rng)),
            }
            start = self.now - _SPAN - self.rng.randrange(_DAY)
            self.write(person.number, ACTOR_PROFILE, profile, at=start, rkey="self")

    def follow_each_other(self) -> None:
        for followed, fans in self._fans.items():
            for fan in fans:
                record: Json = {"subject": DidOf(followed)}
                self.write(fan, GRAPH_FOLLOW, record, at=self.some_time())
        for number in range(0, len(self.people), 9):
            stranger = self.rng.randrange(len(self.people))
            if stranger != number and number not in self._fans[stranger]:
                record = {"subject": DidOf(stranger)}
                self.write(number, GRAPH_BLOCK, record, at=self.some_time())

    def post(self) -> None:
        for person in self.people:
            for _ in range(self.rng.randint(4, 7) + int(person.weight / 3)):
                self._post_once(person)

    def _post_once(self, person: Person) -> None:
        topic = self.rng.choice((person.topic, person.topic, person.other_topic))
        parts: list[Part] = [self._sentence(person, topic)]
        record: Json = {"langs": [person.speech.code]}
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
                    "title": f"{person.speech.tags[topic].capitalize()}",
                    "description": self._sentence(person, topic),
                },
            }
        elif chance < 0.14:
            record["embed"] = {
                "$type": "app.bsky.embed.images",
                "images": [
                    {
                        "image": self.rng.choice(self._views),
                        "alt": self._sentence(person, topic),
                        "aspectRatio": {"width": 160, "height": 90},
                    }
                ],
            }
        elif chance < 0.22:
            friend = self.people[self.rng.choice(self.followers(person.number) or [0])]
            parts += [" ", Mention(friend.handle, friend.number)]
        if self.rng.random() < 0.35:
            parts += [" ", Tag(person.speech.tags[topic])]
        record |= compose(parts)
        at = self.some_time()
        self.posts.append(self.write(person.number, FEED_POST, record, at=at))

    def _sentence(self, person: Person, topic: str) -> str:
        speech = person.speech
        return self.rng.choice(speech.posts[topic]).format(
            thing=self.rng.choice(speech.things[topic]),
            place=self.rng.choice(speech.places),
            n=self.rng.randint(2, 19),
        )

    def _popular_posts(self, count: int) -> list[Draft]:
        weights = [
            self.people[draft.address.person].weight * self.rng.lognormvariate(0, 1)
            for draft in self.posts
        ]
        return self.rng.choices(self.posts, weights, k=count)

    def _audience(self, draft: Draft) -> int:
        """Somebody who would see the post: a follower, now and then a stranger."""
        fans = self.followers(draft.address.person)
        if fans and self.rng.random() < 0.85:
            return self.rng.choice(fans)
        return self.rng.randrange(len(self.people))

    def answer(self, first: int, second: int) -> None:
        """`first` replies to posts, then `second` replies to those replies."""
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
        author = self.people[self._audience(parent)]
        words = self.rng.choice(author.speech.replies)
        record = {
            **compose([words]),
            "langs": [author.speech.code],
            "reply": {
                "root": StrongRef(root.address),
                "parent": StrongRef(parent.address),
            },
        }
        at = self.later(parent)
        return self.write(author.number, FEED_POST, record, at=at, turn=turn)

    def _quote(self, count: int) -> None:
        for quoted in self._popular_posts(count):
            author = self.people[self._audience(quoted)]
            record = {
                **compose([self.rng.choice(author.speech.quotes)]),
                "langs": [author.speech.code],
                "embed": {
                    "$type": "app.bsky.embed.record",
                    "record": StrongRef(quoted.address),
                },
            }
            self.write(author.number, FEED_POST, record, at=self.later(quoted), turn=1)

    def applaud(self, likes: int, reposts: int) -> None:
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

    def organise(self) -> None:
        """Lists and starter packs by topic, gates, and the provider's feeds."""
        for topic in TOPICS:
            members = [person for person in self.people if person.topic == topic]
            owner = max(members, key=lambda person: person.weight)
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
        for member in self.rng.sample(self.people[4:], 5):
            item = {"list": UriOf(made.address), "subject": DidOf(member.number)}
            self.write(2, GRAPH_LISTITEM, item, at=self.some_time())
        blocked: Json = {"subject": UriOf(made.address)}
        self.write(3, GRAPH_LISTBLOCK, blocked, at=self.some_time())
        self._gate_posts()
        self._publish_feeds()
        self._review_books()

    def _gate_posts(self) -> None:
        for draft in self.rng.sample([d for d in self.posts if not d.round], 24):
            person, rkey = draft.address.person, draft.address.rkey
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
            self.write(person, collection, {**record, **extra}, at=at, rkey=rkey)

    def _publish_feeds(self) -> None:
        for rkey, feed in FEEDS.items():
            record: Json = {
                "did": self.provider,
                "displayName": feed.display_name,
                "description": feed.description,
            }
            at = self.now - _SPAN
            self.write(0, FEED_GENERATOR, record, at=at, rkey=rkey)

    def _review_books(self) -> None:
        readers = [p for p in self.people if "books" in (p.topic, p.other_topic)]
        for reader in readers:
            title = self.rng.choice(reader.speech.things["books"])
            record: Json = {
                "title": title,
                "rating": self.rng.randint(2, 5),
                "text": self._sentence(reader, "books"),
                "recommendedTo": DidOf(self._audience(self.posts[reader.number])),
            }
            self.write(reader.number, BOOK_REVIEW, record, at=self.some_time())


def plan_society(
    *, seed: int, now_us: int, domains: Sequence[str], provider: str
) -> Society:
    """Everybody and two weeks of their life before `now_us` (microseconds).

    `domains` are the handle suffixes of the servers, `provider` is the DID that the
    feeds of the demo network are served by.
    """
    rng = random.Random(seed)
    life = _Life(rng, now_us, gather_people(rng, domains), provider)
    life.present_themselves()
    life.follow_each_other()
    life.post()
    life.answer(900, 350)
    life.applaud(2_600, 350)
    life.organise()
    drafts = sorted(life.drafts, key=lambda draft: life.times[draft.address])
    return Society(tuple(life.people), tuple(drafts))
