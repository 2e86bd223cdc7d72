"""The accounts that both indexers are asked about, and their records.

Each kind of relation, record and state that a view must respect occurs at least once.
Times are in the past, in another order than the record keys.
"""

from __future__ import annotations

import base64
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from reference_network import PASSWORD, post, post_bytes

ADMIN_PASSWORD: Final = "admin-pass"  # of the reference development network
POST: Final = "app.bsky.feed.post"
MISSING_CID: Final = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
_START: Final = datetime(2026, 9, 1, tzinfo=UTC)

Ref = dict[str, str]


@dataclass
class Account:
    """An account of one of the two servers."""

    name: str
    server: str
    did: str
    handle: str
    token: str


@dataclass
class Stage:
    """Two servers, their accounts, and all records ever written."""

    servers: tuple[str, str]
    settle: Callable[[], object]
    """Wait until the reference AppView has read all that was written."""
    accounts: dict[str, Account] = field(default_factory=dict)
    refs: dict[str, Ref] = field(default_factory=dict)
    uris: list[str] = field(default_factory=list)
    clock: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def move_in(self, name: str, handle: str, server: int) -> Account:
        """Create an account, named `name` here."""
        made = post(
            self.servers[server],
            "com.atproto.server.createAccount",
            {
                "handle": handle,
                "email": f"{name}@example.com",
                "password": PASSWORD,
            },
        )
        account = Account(
            name, self.servers[server], made["did"], handle, made["accessJwt"]
        )
        self.accounts[name] = account
        return account

    def did(self, name: str) -> str:
        """Return the DID of an account by its name here."""
        return self.accounts[name].did

    def name(self, text: str) -> str:
        """Return a report with names instead of DIDs and AT-URIs."""
        for note, ref in self.refs.items():
            if note != "generator":
                text = text.replace(ref["uri"], f"<{note}>")
        for account in self.accounts.values():
            text = text.replace(account.did, f"@{account.name}")
        return text

    def now(self) -> str:
        """Return a time one minute after the last one given out."""
        moment = _START + timedelta(minutes=next(self.clock))
        return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def write(
        self,
        name: str,
        collection: str,
        record: dict[str, Any],
        *,
        rkey: str | None = None,
        validate: bool | None = None,
        note: str = "",
    ) -> Ref:
        """Write a record; `note` is the name of its reference in `refs`."""
        account = self.accounts[name]
        body: dict[str, Any] = {"repo": account.did, "collection": collection}
        body["record"] = {"$type": collection, "createdAt": self.now(), **record}
        method = "com.atproto.repo.createRecord"
        if rkey is not None:
            method, body["rkey"] = "com.atproto.repo.putRecord", rkey
        if validate is not None:
            body["validate"] = validate
        made = post(account.server, method, body, token=account.token)
        ref = {"uri": made["uri"], "cid": made["cid"]}
        self.uris.append(ref["uri"])
        if note:
            self.refs[note] = ref
        return ref

    def apply(self, name: str, collection: str, records: list[dict[str, Any]]) -> None:
        """Write several records in one commit, where the server removes no others."""
        account = self.accounts[name]
        writes = [
            {
                "$type": "com.atproto.repo.applyWrites#create",
                "collection": collection,
                "value": {"$type": collection, "createdAt": self.now(), **record},
            }
            for record in records
        ]
        body = {"repo": account.did, "writes": writes}
        post(account.server, "com.atproto.repo.applyWrites", body, token=account.token)

    def remove(self, note: str) -> None:
        """Delete a noted record."""
        _, _, did, collection, rkey = self.refs[note]["uri"].split("/")
        account = next(a for a in self.accounts.values() if a.did == did)
        body = {"repo": did, "collection": collection, "rkey": rkey}
        post(account.server, "com.atproto.repo.deleteRecord", body, token=account.token)

    def administer(self, name: str, nsid: str, body: Any) -> None:
        """Call a procedure as the operator of the account's server."""
        secret = base64.b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode()
        server = self.accounts[name].server
        post(server, nsid, body, authorization=f"Basic {secret}")

    def say(self, name: str, text: str, note: str = "", **fields: Any) -> Ref:
        """Write a post."""
        return self.write(name, POST, {"text": text, **fields}, note=note or text)

    def reply(
        self,
        name: str,
        text: str,
        parent: str,
        root: str,
        **fields: Any,
    ) -> Ref:
        """Write a reply to the post noted as `parent`."""
        reply = {"parent": self.refs[parent], "root": self.refs[root]}
        return self.say(name, text, reply=reply, **fields)

    def like(self, name: str, note: str) -> Ref:
        """Like a noted record."""
        return self.write(
            name, "app.bsky.feed.like", {"subject": self.refs[note]}, note=""
        )

    def repost(self, name: str, note: str, **fields: Any) -> Ref:
        """Repost a noted record."""
        record = {"subject": self.refs[note], **fields}
        return self.write(name, "app.bsky.feed.repost", record)

    def relate(self, kind: str, name: str, other: str, note: str = "") -> Ref:
        """Follow or block another account."""
        record = {"subject": self.did(other)}
        return self.write(name, f"app.bsky.graph.{kind}", record, note=note)

    def upload(self, name: str, data: bytes, kind: str) -> dict[str, Any]:
        """Store a file; the blob of it, for a record."""
        account = self.accounts[name]
        made = post_bytes(
            account.server, "com.atproto.repo.uploadBlob", data, kind, account.token
        )
        blob: dict[str, Any] = made["blob"]
        return blob


def picture(shade: int) -> bytes:
    """Return a PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes([0, shade]))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


CAST: Final = {
    "alice": 0,
    "bob": 0,
    "carol": 1,
    "dan": 1,
    "erin": 0,
    "frank": 1,
    "grace": 0,
    "heidi": 0,
    "ivan": 1,
    "judy": 0,
    "mallory": 1,
    "niaj": 0,
    "olivia": 0,
    "peggy": 1,
    "sybil": 0,
    "victor": 1,
    "zoe": 0,
}
"""Name and server. Heidi has no profile, zoe writes nothing."""


def _self_labels(*values: str) -> dict[str, Any]:
    return {
        "$type": "com.atproto.label.defs#selfLabels",
        "values": [{"val": value} for value in values],
    }


def play(stage: Stage) -> None:
    """Write all that our crawler finds at its start."""
    for name, server in CAST.items():
        stage.move_in(name, f"{name}.{'two' if server else 'one'}.test", server)
    for scene in (_profiles, _graph, _posts, _threads, _quotes, _media, _named):
        scene(stage)
    stage.settle()
    for scene in (_gates, _blocks, _opted_out, _times, _keys, _repeats, _gone):
        scene(stage)
    stage.settle()


def play_on(stage: Stage) -> None:
    """Write live commits, and change accounts."""
    _recreate(stage)
    stage.say("bob", "written live")
    stage.like("carol", "written live")
    stage.reply("alice", "a live reply", "written live", "written live")
    stage.say("alice", "to the next century", createdAt="2148-01-01T00:00:00.000Z")
    _rename(stage)
    post(
        stage.accounts["judy"].server,
        "com.atproto.server.deactivateAccount",
        {},
        token=stage.accounts["judy"].token,
    )
    stage.administer(
        "mallory",
        "com.atproto.admin.updateSubjectStatus",
        {
            "subject": {
                "$type": "com.atproto.admin.defs#repoRef",
                "did": stage.did("mallory"),
            },
            "takedown": {"applied": True, "ref": "1"},
        },
    )
    stage.administer(
        "niaj", "com.atproto.admin.deleteAccount", {"did": stage.did("niaj")}
    )


def _profiles(stage: Stage) -> None:
    def profile(name: str, **fields: Any) -> None:
        stage.write(name, "app.bsky.actor.profile", fields, rkey="self")

    profile(
        "alice",
        displayName="Alice of the thousand posts",
        description="Writes.\nA lot: https://example.com #hello",
        avatar=stage.upload("alice", picture(1), "image/png"),
        banner=stage.upload("alice", picture(2), "image/png"),
        pronouns="she/her",
        website="https://alice.example.com",
    )
    profile("bob", displayName="Bob", description="")
    profile("carol", displayName="Carol", labels=_self_labels("porn"))
    profile("dan", displayName="", description="a" * 250)
    profile("erin", displayName="Erin 日本語", description="ก็" * 80)
    profile("frank", createdAt="2023-02-03T04:05:06.789Z", displayName="Frank")
    profile("grace", displayName="Grace", description="👨‍👩‍👧‍👦" * 20)
    profile("ivan", displayName="Ivan", labels=_self_labels("!no-unauthenticated"))
    profile("judy", displayName="Judy")
    profile("mallory", displayName="Mallory")
    profile("niaj", displayName="Niaj")
    profile("olivia", displayName="Olivia", createdAt="1066-10-14T00:00:00.000Z")
    profile("peggy", displayName="Peggy")
    profile("sybil", displayName="Sybil", createdAt="2148-01-01T00:00:00.000Z")
    profile("victor", displayName="Victor")


def _graph(stage: Stage) -> None:
    for name in CAST:
        if name not in ("alice", "zoe"):
            stage.relate("follow", name, "alice")
    for other in ("bob", "carol", "grace", "heidi", "ivan", "judy", "mallory", "niaj"):
        stage.relate("follow", "alice", other)
    for name, other in (
        ("bob", "carol"),
        ("bob", "dan"),
        ("carol", "bob"),
        ("dan", "bob"),
        ("erin", "bob"),
        ("frank", "bob"),
        ("heidi", "heidi"),  # itself
        ("bob", "zoe"),
        ("victor", "mallory"),
        ("victor", "niaj"),
        ("victor", "judy"),
        ("ivan", "bob"),
    ):
        stage.relate("follow", name, other)
    stage.write(
        "bob", "app.bsky.graph.follow", {"subject": "did:plc:" + "a" * 24}, note=""
    )
    stage.write(
        "bob",
        "app.bsky.graph.follow",
        {"subject": stage.did("victor"), "createdAt": "1999-01-01T00:00:00.000Z"},
    )


def _posts(stage: Stage) -> None:
    for number in range(12):
        stage.say("alice", f"note {number} of the wombat")
    stage.say("bob", "bob speaks of a wombat")
    text = "hello @bob.one.test, see https://example.com/a?b=c and #wombat"
    encoded = text.encode()

    def span(word: str) -> dict[str, int]:
        start = encoded.index(word.encode())
        return {"byteStart": start, "byteEnd": start + len(word.encode())}

    stage.say(
        "alice",
        text,
        note="with facets",
        langs=["en", "nl"],
        tags=["extra"],
        facets=[
            {
                "index": span(word),
                "features": [{"$type": f"app.bsky.richtext.facet#{kind}", **value}],
            }
            for word, kind, value in (
                ("@bob.one.test", "mention", {"did": stage.did("bob")}),
                (
                    "https://example.com/a?b=c",
                    "link",
                    {"uri": "https://example.com/a?b=c"},
                ),
                ("#wombat", "tag", {"tag": "wombat"}),
            )
        ],
    )
    stage.say("carol", "labelled", labels=_self_labels("nudity", "graphic-media"))
    stage.say("carol", "")
    for name in ("dan", "erin", "frank", "grace", "heidi", "judy", "mallory", "niaj"):
        stage.say(name, f"{name} says so")
    for name in ("bob", "carol", "heidi", "judy", "mallory", "niaj", "victor"):
        stage.like(name, "note 1 of the wombat")
        stage.repost(name, "note 2 of the wombat")
    stage.like("alice", "note 1 of the wombat")
    stage.repost("alice", "note 3 of the wombat")
    stage.repost("alice", "bob speaks of a wombat")
    for name in ("judy", "mallory", "niaj"):
        stage.repost("alice", f"{name} says so")
        stage.like("alice", f"{name} says so")


def _threads(stage: Stage) -> None:
    stage.say("alice", "thread")
    parent = "thread"
    for number in range(14):
        name = ("alice", "bob", "carol")[number % 3]
        stage.reply(name, f"deep {number}", parent, "thread")
        parent = f"deep {number}"
    for name in ("bob", "carol", "dan", "erin", "frank", "judy", "mallory", "niaj"):
        stage.reply(name, f"{name} answers", "thread", "thread")
    stage.reply("alice", "alice to dan", "dan answers", "thread")
    stage.reply("alice", "alice to herself", "thread", "thread")
    stage.reply("alice", "alice to herself again", "alice to herself", "thread")
    for name in ("judy", "mallory", "niaj"):
        stage.reply("bob", f"bob to {name}", f"{name} answers", "thread")
    # A self-thread, with another account in the middle of a second branch.
    stage.say("bob", "self 0")
    stage.reply("bob", "self 1", "self 0", "self 0")
    stage.reply("bob", "self 2", "self 1", "self 0")
    stage.reply("carol", "carol in self", "self 1", "self 0")
    stage.reply("bob", "bob below carol", "carol in self", "self 0")
    # Parents that are deleted, never existed, or are no posts.
    stage.say("dan", "short lived")
    stage.reply("bob", "middle lived", "short lived", "short lived")
    stage.reply("erin", "left behind", "middle lived", "short lived")
    unknown = f"at://{stage.did('dan')}/{POST}/3kaaaaaaaaaaa"
    for note, uri in (
        ("no parent", unknown),
        ("no author", f"at://did:plc:{'b' * 24}/{POST}/3kaaaaaaaaaaa"),
    ):
        ref = {"uri": uri, "cid": MISSING_CID}
        stage.say("erin", f"reply with {note}", reply={"parent": ref, "root": ref})
    stage.say(
        "erin",
        "another root",
        reply={"parent": stage.refs["thread"], "root": stage.refs["self 0"]},
    )
    # Rings: a post that replies to itself, and three in a circle.
    did = stage.did("erin")
    rings = {"3kring2222222": "3kring2222222"} | {
        "3kring2222223": "3kring2222224",
        "3kring2222224": "3kring2222225",
        "3kring2222225": "3kring2222223",
    }
    for rkey, parent in rings.items():
        ref = {"uri": f"at://{did}/{POST}/{parent}", "cid": MISSING_CID}
        record = {"text": f"ring {rkey}", "reply": {"parent": ref, "root": ref}}
        stage.write("erin", POST, record, rkey=rkey, note=f"ring {rkey}")


def _quote(stage: Stage, note: str) -> dict[str, Any]:
    return {"$type": "app.bsky.embed.record", "record": stage.refs[note]}


def _quotes(stage: Stage) -> None:
    def quote(name: str, text: str, note: str) -> None:
        stage.say(name, text, embed=_quote(stage, note))

    quote("bob", "quote 1", "note 5 of the wombat")
    quote("carol", "quote 2", "quote 1")
    quote("alice", "quote 3", "quote 2")
    quote("alice", "quote of herself", "note 5 of the wombat")
    for name in ("judy", "mallory", "niaj"):
        quote("bob", f"quote of {name}", f"{name} says so")
    quote("erin", "quote of the short lived", "short lived")
    ref = {"uri": f"at://{stage.did('dan')}/{POST}/3kaaaaaaaaaaa", "cid": MISSING_CID}
    embed = {"$type": "app.bsky.embed.record", "record": ref}
    stage.say("erin", "quote of nothing", embed=embed)
    alice = stage.did("alice")
    ref = {"uri": f"at://{alice}/app.bsky.actor.profile/self", "cid": MISSING_CID}
    embed = {"$type": "app.bsky.embed.record", "record": ref}
    stage.say("erin", "quote of a profile", embed=embed)


def _card(word: str) -> dict[str, Any]:
    external = {"uri": f"https://example.com/{word}", "title": word, "description": ""}
    return {"$type": "app.bsky.embed.external", "external": external}


def _media(stage: Stage) -> None:
    def image(name: str, shade: int, **fields: Any) -> dict[str, Any]:
        blob = stage.upload(name, picture(shade), "image/png")
        return {"image": blob, "alt": f"shade {shade}", **fields}

    images = {
        "$type": "app.bsky.embed.images",
        "images": [
            image("alice", 3, aspectRatio={"width": 3, "height": 2}),
            image("alice", 4, alt=""),
        ],
    }
    stage.say("alice", "with images", embed=images)
    video = {
        "$type": "app.bsky.embed.video",
        "video": stage.upload("alice", b"\0\0\0 ftypisom video", "video/mp4"),
        "alt": "a video",
        "aspectRatio": {"width": 16, "height": 9},
    }
    stage.say("alice", "with a video", embed=video)
    external = {
        "$type": "app.bsky.embed.external",
        "external": {
            "uri": "https://example.com/page",
            "title": "A page",
            "description": "",
            "thumb": stage.upload("alice", picture(5), "image/png"),
        },
    }
    stage.say("alice", "with a card", embed=external)
    stage.say("bob", "with a bare card", embed=_card("x"))
    for text, media in (
        ("quote with images", images),
        ("quote with a video", video),
        ("quote with a card", external),
    ):
        both = {
            "$type": "app.bsky.embed.recordWithMedia",
            "record": _quote(stage, "bob speaks of a wombat"),
            "media": media,
        }
        stage.say("alice", text, embed=both)
    stage.say("carol", "quote of a quote with images", embed=_quote(stage, text))
    stage.say("carol", "quote of images", embed=_quote(stage, "with images"))
    stage.say("carol", "quote of a video", embed=_quote(stage, "with a video"))
    stage.reply("alice", "images in a reply", "dan answers", "thread", embed=images)
    unknown = {"$type": "org.example.embed", "thing": 1}
    stage.say("bob", "with an unknown embed", embed=unknown)
    pinned = stage.refs["note 0 of the wombat"]
    stage.write(
        "alice",
        "app.bsky.actor.profile",
        {
            "displayName": "Alice of the thousand posts",
            "description": "Writes.\nA lot: https://example.com #hello",
            "avatar": stage.upload("alice", picture(1), "image/png"),
            "banner": stage.upload("alice", picture(2), "image/png"),
            "pronouns": "she/her",
            "website": "https://alice.example.com",
            "pinnedPost": pinned,
        },
        rkey="self",
    )
    for name, note in (("grace", "bob speaks of a wombat"), ("victor", "short lived")):
        record = {"displayName": name.title(), "pinnedPost": stage.refs[note]}
        stage.write(name, "app.bsky.actor.profile", record, rkey="self")


def _named(stage: Stage) -> None:
    def make_list(
        name: str, note: str, purpose: str, *members: str, **more: Any
    ) -> None:
        record = {
            "name": note,
            "purpose": f"app.bsky.graph.defs#{purpose}",
            "description": f"about {note}",
            **more,
        }
        stage.write(name, "app.bsky.graph.list", record, note=note)
        for member in members:
            item = {"list": stage.refs[note]["uri"], "subject": stage.did(member)}
            stage.write(name, "app.bsky.graph.listitem", item)

    avatar = stage.upload("sybil", picture(6), "image/png")
    make_list("sybil", "friends", "curatelist", "bob", "carol", "niaj", avatar=avatar)
    make_list("sybil", "fools", "modlist", "frank", "victor", "mallory")
    make_list("sybil", "starters", "referencelist", "alice", "bob", "dan")
    make_list("grace", "readers", "curatelist", "carol", "heidi")
    make_list("sybil", "labelled list", "curatelist", labels=_self_labels("porn"))
    stage.apply(
        "sybil",
        "app.bsky.graph.listitem",
        [{"list": stage.refs["friends"]["uri"], "subject": stage.did("bob")}] * 2,
    )
    stage.write(
        "sybil",
        "app.bsky.graph.starterpack",
        {
            "name": "start here",
            "description": "for everybody",
            "list": stage.refs["starters"]["uri"],
            "feeds": [],
        },
        note="pack",
    )
    for note, more in (
        ("feed one", {"avatar": stage.upload("sybil", picture(7), "image/png")}),
        ("feed two", {"acceptsInteractions": True, "labels": _self_labels("porn")}),
        (
            "feed three",
            {
                "description": "ก็ดี " * 60,
                "contentMode": "app.bsky.feed.defs#contentModeVideo",
                "descriptionFacets": [
                    {
                        "index": {"byteStart": 0, "byteEnd": 3},
                        "features": [
                            {"$type": "app.bsky.richtext.facet#tag", "tag": "one"}
                        ],
                    }
                ],
            },
        ),
    ):
        record = {
            "did": stage.refs["generator"]["uri"],
            "displayName": note,
            "description": f"about {note}",
            **more,
        }
        rkey = note.replace(" ", "-")
        stage.write("sybil", "app.bsky.feed.generator", record, rkey=rkey, note=note)
    for name in ("alice", "bob", "dan", "mallory"):
        stage.like(name, "feed one")
    for note in ("friends", "fools", "pack", "feed one", "feed three"):
        stage.say("bob", f"look at {note}", embed=_quote(stage, note))
    both = {
        "$type": "app.bsky.embed.recordWithMedia",
        "record": _quote(stage, "feed one"),
        "media": _card("y"),
    }
    stage.say("alice", "a feed with a card", embed=both)


def _gates(stage: Stage) -> None:
    def gate(note: str, **fields: Any) -> None:
        ref = stage.refs[note]
        stage.write(
            "grace",
            "app.bsky.feed.threadgate",
            {"post": ref["uri"], **fields},
            rkey=ref["uri"].rpartition("/")[2],
        )

    def rule(kind: str, **fields: str) -> dict[str, str]:
        return {"$type": f"app.bsky.feed.threadgate#{kind}Rule", **fields}

    stage.relate("follow", "grace", "dan")
    readers = rule("list", list=stage.refs["readers"]["uri"])
    rules = {
        "gate open": None,
        "gate nobody": [],
        "gate mention": [rule("mention")],
        "gate followers": [rule("follower")],
        "gate following": [rule("following")],
        "gate list": [readers],
        "gate several": [rule("mention"), rule("following"), readers],
    }
    mention = {
        "index": {"byteStart": 0, "byteEnd": 4},
        "features": [
            {"$type": "app.bsky.richtext.facet#mention", "did": stage.did("bob")}
        ],
    }
    for note, allow in rules.items():
        stage.say("grace", note, facets=[mention] if "mention" in note else [])
        gate(note, **({} if allow is None else {"allow": allow}))
    stage.settle()  # a gate is applied to replies that come after it
    for note in rules:
        for name in ("bob", "carol", "dan", "victor", "grace"):
            stage.reply(name, f"{name} into {note}", note, note)
        stage.reply("alice", f"alice below in {note}", f"bob into {note}", note)
    hidden = stage.refs["carol into gate open"]["uri"]
    gate("gate open", hiddenReplies=[hidden])
    # Invalid gates: of another account's post, of a reply, under another key.
    stage.write(
        "grace",
        "app.bsky.feed.threadgate",
        {"post": stage.refs["self 0"]["uri"], "allow": []},
        rkey=stage.refs["self 0"]["uri"].rpartition("/")[2],
        validate=False,
    )

    def postgate(name: str, note: str, **fields: Any) -> None:
        ref = stage.refs[note]
        stage.write(
            name,
            "app.bsky.feed.postgate",
            {"post": ref["uri"], **fields},
            rkey=ref["uri"].rpartition("/")[2],
        )

    stage.say("grace", "not to be quoted")
    stage.say("grace", "to be detached")
    disable = {"$type": "app.bsky.feed.postgate#disableRule"}
    postgate("grace", "not to be quoted", embeddingRules=[disable])
    stage.settle()
    for name in ("bob", "grace"):
        for note in ("not to be quoted", "to be detached"):
            stage.say(name, f"{name} quotes {note}", embed=_quote(stage, note))
    both = {
        "$type": "app.bsky.embed.recordWithMedia",
        "record": _quote(stage, "to be detached"),
        "media": _card("z"),
    }
    stage.say("bob", "detached with media", embed=both)
    detached = ["bob quotes to be detached", "detached with media"]
    postgate(
        "grace",
        "to be detached",
        detachedEmbeddingUris=[stage.refs[note]["uri"] for note in detached],
    )


def _blocks(stage: Stage) -> None:
    # Records between accounts that block each other later.
    stage.reply("dan", "dan to carol", "labelled", "labelled")
    stage.reply("bob", "bob below dan", "dan to carol", "labelled")
    stage.say("dan", "dan quotes carol", embed=_quote(stage, "labelled"))
    stage.say("carol", "carol quotes dan", embed=_quote(stage, "dan says so"))
    stage.like("dan", "labelled")
    stage.repost("dan", "labelled")
    stage.repost("bob", "labelled")
    stage.relate("follow", "dan", "carol")
    stage.reply("frank", "frank to erin", "erin says so", "erin says so")
    stage.say("frank", "frank quotes erin", embed=_quote(stage, "erin says so"))
    stage.say("erin", "erin quotes frank", embed=_quote(stage, "frank says so"))
    stage.like("frank", "erin says so")
    stage.repost("frank", "erin says so")
    stage.relate("follow", "frank", "erin")
    stage.relate("follow", "erin", "frank")
    stage.relate("block", "carol", "dan")
    # Erin blocks by a list: frank, victor and mallory.
    record = {"subject": stage.refs["fools"]["uri"]}
    stage.write("erin", "app.bsky.graph.listblock", record)
    # Of one another; and a block that was lifted.
    stage.relate("block", "heidi", "victor")
    stage.relate("block", "victor", "heidi")
    stage.relate("block", "bob", "heidi", note="lifted block")
    stage.remove("lifted block")
    # A block by a list that is not for blocks.
    record = {"subject": stage.refs["friends"]["uri"]}
    stage.write("victor", "app.bsky.graph.listblock", record)


def _opted_out(stage: Stage) -> None:
    stage.say("ivan", "ivan for members only, a wombat")
    stage.reply("ivan", "ivan answers", "thread", "thread")
    stage.reply("bob", "bob to ivan", "ivan answers", "thread")
    note = "ivan for members only, a wombat"
    stage.say("bob", "quote of ivan", embed=_quote(stage, note))
    stage.repost("bob", note)
    stage.like("ivan", "note 1 of the wombat")
    stage.like("bob", note)


def _times(stage: Stage) -> None:
    for year in ("1066", "1683", "1969", "2023"):
        moment = f"{year}-03-04T05:06:07.890Z"
        stage.say("olivia", f"of {year}", createdAt=moment)
    stage.say("olivia", "of 2148", createdAt="2148-03-04T05:06:07.890Z")
    stage.say("olivia", "with a zone", createdAt="2025-03-04T05:06:07+02:00")
    stage.say("olivia", "with micros", createdAt="2025-03-04T05:06:07.123456Z")
    stage.repost("olivia", "of 2023", createdAt="2023-04-01T00:00:00.000Z")
    stage.repost("olivia", "of 1066", createdAt="1066-12-25T00:00:00.000Z")
    stage.repost("bob", "of 2148", createdAt="2148-12-25T00:00:00.000Z")
    for name in ("bob", "carol"):
        stage.like(name, "of 2148")
    same = "2026-08-08T08:08:08.000Z"
    for number in range(6):
        stage.say("olivia", f"equal {number}", createdAt=same)


def _keys(stage: Stage) -> None:
    record = {"text": "under a key that is no TID"}
    stage.write("olivia", POST, record, rkey="no-tid", validate=False, note="no tid")
    stage.like("bob", "no tid")
    stage.reply("bob", "to a key that is no TID", "no tid", "no tid")
    for kind in ("like", "repost"):
        record = {"subject": stage.refs["bob speaks of a wombat"]}
        stage.write(
            "olivia", f"app.bsky.feed.{kind}", record, rkey=f"my-{kind}", validate=False
        )
    record = {"subject": stage.did("bob")}
    stage.write(
        "olivia", "app.bsky.graph.follow", record, rkey="my-follow", validate=False
    )
    # A key that says 2148.
    record = {"text": "under a key of 2148"}
    stage.write("olivia", POST, record, rkey="bzzzzzzzzzzzz", note="key of 2148")
    subject = {"subject": stage.refs["bob speaks of a wombat"]}
    stage.write("erin", "app.bsky.feed.repost", subject, rkey="bzzzzzzzzzzzz")


def _repeats(stage: Stage) -> None:
    subject = stage.refs["note 7 of the wombat"]
    for kind in ("like", "repost"):
        stage.apply("heidi", f"app.bsky.feed.{kind}", [{"subject": subject}] * 3)
    stage.apply("heidi", "app.bsky.graph.follow", [{"subject": stage.did("bob")}] * 3)
    stage.apply("heidi", "app.bsky.graph.block", [{"subject": stage.did("dan")}] * 2)
    # A repost of a repost, and likes of what is no post.
    repost = stage.repost("bob", "note 8 of the wombat")
    stage.refs["a repost"] = stage.repost("alice", "frank says so")
    stage.write("carol", "app.bsky.feed.repost", {"subject": repost})
    stage.write("carol", "app.bsky.feed.like", {"subject": repost})
    # A like of another version of a post.
    other = {"uri": stage.refs["note 8 of the wombat"]["uri"], "cid": MISSING_CID}
    stage.write("dan", "app.bsky.feed.like", {"subject": other})


def _gone(stage: Stage) -> None:
    stage.like("alice", "short lived")
    stage.repost("alice", "short lived")
    stage.remove("short lived")
    stage.remove("middle lived")
    stage.relate("follow", "zoe", "bob", note="lifted follow")
    stage.remove("lifted follow")


def _recreate(stage: Stage) -> None:
    did = stage.did("victor")
    stage.write("victor", POST, {"text": "first"}, rkey="3kvictor22222", note="again")
    stage.like("bob", "again")
    stage.repost("bob", "again")
    stage.reply("bob", "to the first", "again", "again")
    stage.settle()
    stage.remove("again")
    stage.write("victor", POST, {"text": "second"}, rkey="3kvictor22222", note="again")
    stage.like("alice", "again")
    assert did in stage.refs["again"]["uri"]


def _rename(stage: Stage) -> None:
    peggy = stage.accounts["peggy"]
    post(
        peggy.server,
        "com.atproto.identity.updateHandle",
        {"handle": "peggy-two.two.test"},
        token=peggy.token,
    )
    peggy.handle = "peggy-two.two.test"
    stage.move_in("trent", "peggy.two.test", 1)
    stage.say("trent", "trent took the name")


def skeleton(stage: Stage) -> dict[str, Any]:
    """Return the response of the foreign feed: all kinds of posts, one twice."""
    notes = (
        "note 1 of the wombat",
        "labelled",
        "note 1 of the wombat",
        "short lived",
        "judy says so",
        "mallory says so",
        "dan says so",
        "frank says so",
        "ivan for members only, a wombat",
        "dan to carol",
        "bob quotes to be detached",
        "alice below in gate nobody",
    )
    feed: list[dict[str, Any]] = [{"post": stage.refs[note]["uri"]} for note in notes]
    feed[0]["feedContext"] = "because"
    feed[7]["reason"] = {
        "$type": "app.bsky.feed.defs#skeletonReasonRepost",
        "repost": stage.refs["a repost"]["uri"],
    }
    feed[8]["reason"] = {"$type": "app.bsky.feed.defs#skeletonReasonPin"}
    return {"feed": feed, "reqId": "request-1"}
