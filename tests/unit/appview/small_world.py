"""Records of accounts, and a small world of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from protocol.data.cbor import encode
from protocol.data.cid import cid_for, cid_to_text, raw_cid_for
from protocol.data.json_form import from_json
from protocol.events.event import CommitEvent, RecordOp
from protocol.identity.keys import PrivateKey
from protocol.mst import EMPTY_ROOT, build_root
from protocol.repo.commit import sign_commit
from protocol.syntax import TidClock

SERVICE = "did:web:provider.example.com"
FOREIGN_SERVICE = "did:web:feeds.example.com"
FEED_PUBLISHER = "carol"
START = datetime(2026, 11, 1, tzinfo=UTC)
PICTURE = {
    "$type": "blob",
    "ref": {"$link": cid_to_text(raw_cid_for(b"picture"))},
    "mimeType": "image/jpeg",
    "size": 1000,
}


def did(name: str) -> str:
    return f"did:plc:{name.ljust(24, 'a')}"


@dataclass
class World:
    """The records of accounts, before they are applied."""

    clock: TidClock
    moment: datetime = START
    records: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    keys: dict[str, PrivateKey] = field(default_factory=dict)

    def write(
        self, name: str, collection: str, record: dict[str, Any], rkey: str = ""
    ) -> str:
        """Add a record; return its AT-URI."""
        self.moment += timedelta(minutes=1)
        rkey = rkey or self.clock.next()
        made = {"$type": collection, "createdAt": self.moment.isoformat()}
        path = f"{collection}/{rkey}"
        self.records.setdefault(name, {})[path] = made | record
        return f"at://{did(name)}/{path}"

    def post(self, name: str, text: str, **fields: Any) -> str:
        return self.write(name, "app.bsky.feed.post", {"text": text, **fields})

    def like(self, name: str, uri: str) -> str:
        return self.write(name, "app.bsky.feed.like", {"subject": self.reference(uri)})

    def repost(self, name: str, uri: str) -> str:
        subject = {"subject": self.reference(uri)}
        return self.write(name, "app.bsky.feed.repost", subject)

    def follow(self, name: str, other: str) -> str:
        return self.write(name, "app.bsky.graph.follow", {"subject": did(other)})

    def reference(self, uri: str) -> dict[str, str]:
        owner, path = uri.removeprefix("at://").split("/", 1)
        name = next(n for n in self.records if did(n) == owner)
        return {"uri": uri, "cid": self.cid(name, path)}

    def cid(self, name: str, path: str) -> str:
        return cid_to_text(cid_for(encode(from_json(self.records[name][path]))))

    def commits(self) -> list[CommitEvent]:
        """Return one first commit for each account."""
        events = []
        for name, records in self.records.items():
            blocks = {p: encode(from_json(r)) for p, r in sorted(records.items())}
            data = build_root((p.encode(), cid_for(b)) for p, b in blocks.items())
            key = self.keys[name] = PrivateKey.generate("k256")
            rev = self.clock.next()
            ops = []
            for path, block in blocks.items():
                collection, rkey = path.split("/")
                ops.append(RecordOp("create", collection, rkey, cid_for(block), block))
            commit = sign_commit(did(name), data, rev, key)
            events.append(
                CommitEvent(did(name), rev, None, data, EMPTY_ROOT, commit, ops)
            )
        return events


def fill(world: World) -> dict[str, str]:
    """Alice, Bob and Carol talk; Dan is deactivated; Eve blocks Alice."""
    for name, display in (("alice", "Alice"), ("bob", "Bob"), ("carol", "Carol")):
        world.write(
            name,
            "app.bsky.actor.profile",
            {"displayName": display, "description": f"I am {name}", "avatar": PICTURE},
            "self",
        )
    uris = {
        "hello": world.post("alice", "Hello quokka", langs=["en"]),
        "dans": world.post("dan", "Dan was here, quokka"),
        "eves": world.post("eve", "Eve's quokka"),
        "picture": world.post(
            "bob",
            "look",
            embed={
                "$type": "app.bsky.embed.images",
                "images": [
                    {
                        "alt": "a wombat",
                        "image": PICTURE,
                        "aspectRatio": {"width": 4, "height": 3},
                    }
                ],
            },
        ),
        "external": world.post(
            "bob",
            "a link",
            embed={
                "$type": "app.bsky.embed.external",
                "external": {
                    "uri": "https://example.com/x",
                    "title": "X",
                    "description": "d",
                },
            },
            labels={
                "$type": "com.atproto.label.defs#selfLabels",
                "values": [{"val": "spoiler"}],
            },
        ),
    }

    def answer(name: str, text: str, parent: str, root: str) -> str:
        reply = {
            "root": world.reference(uris[root]),
            "parent": world.reference(uris[parent]),
        }
        return world.post(name, text, reply=reply)

    def quote(uri: str) -> dict[str, Any]:
        return {"$type": "app.bsky.embed.record", "record": world.reference(uri)}

    uris["reply"] = answer("bob", "Hi Alice", "hello", "hello")
    uris["reply2"] = answer("carol", "Hi both", "reply", "hello")
    uris["reply3"] = answer("alice", "Thanks", "reply2", "hello")
    uris["hidden_reply"] = answer("dan", "nobody sees me", "hello", "hello")
    uris["quote"] = world.post("carol", "see this", embed=quote(uris["picture"]))
    uris["quote_hidden"] = world.post("carol", "gone", embed=quote(uris["dans"]))
    uris["quote_media"] = world.post(
        "carol",
        "both",
        embed={
            "$type": "app.bsky.embed.recordWithMedia",
            "record": quote(uris["hello"]),
            "media": world.records["bob"][uris["picture"].split("/", 3)[3]]["embed"],
        },
    )
    uris["list"] = world.write(
        "carol",
        "app.bsky.graph.list",
        {"name": "friends", "purpose": "app.bsky.graph.defs#curatelist"},
    )
    world.write(
        "carol",
        "app.bsky.graph.listitem",
        {"subject": did("alice"), "list": uris["list"]},
    )
    for name in ("latest", "popular", "following", "unknown"):
        uris[f"feed_{name}"] = world.write(
            FEED_PUBLISHER,
            "app.bsky.feed.generator",
            {"did": SERVICE, "displayName": name.title(), "description": "a feed"},
            name,
        )
    uris["feed_foreign"] = world.write(
        FEED_PUBLISHER,
        "app.bsky.feed.generator",
        {"did": FOREIGN_SERVICE, "displayName": "Foreign"},
        "foreign",
    )
    uris["quote_list"] = world.post("carol", "my list", embed=quote(uris["list"]))
    uris["quote_feed"] = world.post("bob", "nice", embed=quote(uris["feed_latest"]))
    # A feed without a record in a repo, liked and quoted all the same.
    uris["own_latest"] = f"at://{SERVICE}/app.bsky.feed.generator/latest"
    subject = {"uri": uris["own_latest"], "cid": world.reference(uris["hello"])["cid"]}
    world.write("dan", "app.bsky.feed.like", {"subject": subject})
    own_quote = {"$type": "app.bsky.embed.record", "record": subject}
    uris["quote_own"] = world.post("carol", "from the provider", embed=own_quote)
    for name in ("bob", "carol", "dan"):
        world.like(name, uris["hello"])
        world.follow(name, "alice")
    world.like("alice", uris["picture"])
    world.like("alice", uris["feed_latest"])
    uris["repost"] = world.repost("bob", uris["hello"])
    world.repost("carol", uris["hello"])
    world.follow("alice", "bob")
    world.write("eve", "app.bsky.graph.block", {"subject": did("alice")})
    uris["strange"] = world.write(
        "alice", "org.example.garden.plant", {"name": "fern", "height": 3}, "fern"
    )
    for i in range(12):
        world.post("bob", f"number {i} of many")
    return uris
