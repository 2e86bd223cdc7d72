"""Seeded records of every collection, valid and invalid.

They use few keys and few accounts, so that they meet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from indexer_world import CREATED, post, reference

from protocol.data import cbor
from protocol.data.cid import Cid, cid_for, raw_cid_for
from storage.collections import (
    ACTOR_PROFILE,
    COLLECTION_IDS,
    FEED_GENERATOR,
    FEED_LIKE,
    FEED_POST,
    FEED_REPOST,
    FEED_THREADGATE,
    GRAPH_BLOCK,
    GRAPH_FOLLOW,
    GRAPH_LIST,
    GRAPH_LISTITEM,
    GRAPH_STARTERPACK,
    LABELER_SERVICE,
)

NOTE: Final = "org.example.note"
THING: Final = "org.example.note.thing"
NSIDS: Final = (*COLLECTION_IDS, NOTE, THING, FEED_POST, FEED_LIKE, FEED_POST)
TIDS: Final = ("3laaaaaaaaa22", "3lbbbbbbbbb22", "3lccccccccc22", "3lddddddddd22")
ODD_KEYS: Final = (
    *("self", "any-key", "2222222222222", "jzzzzzzzzzzzz", "SELF", ":", "~.~", "-1"),
    "k" * 512,
)
BAD_PATHS: Final = (
    *("nothing", f"{FEED_POST}/a b", f"{FEED_POST}/", f"/{TIDS[0]}", "post/self"),
    *(f"{FEED_POST}/..", f"{FEED_POST}/{TIDS[0]}/a", "a\x00/b", f"{NOTE}/" + "k" * 513),
)
_TIMES: Final = (
    *(CREATED, CREATED, CREATED, "2026-02-01T10:00:00Z", "2031-01-01T00:00:00.000Z"),
    *("1985-04-12T23:20:50.123456+05:30", "0000-01-01T00:00:00Z", "2026-02-30T10:00"),
    *(
        "1969-12-31T23:59:59.999Z",
        "2026-02-01T24:00:00.000Z",
        "9999-12-31T23:59:59-09:00",
    ),
    *("2026-02-01T10:00:60.000Z", "0001-01-01T00:00:00.000Z", ""),
)
_TEXTS: Final = (
    *(
        "hello",
        "",
        "a\x00b",
        "日本語 😀",
        "did:plc:",
        "at://",
        "x" * 70_000,
        "İ ﷺ \u202e",
    ),
    *("'\\ \"{}", "\ufffd"),
)


class Kinds:
    """Records that link to the accounts of `dids` and to some that never come."""

    def __init__(self, rng: random.Random, dids: Sequence[str]) -> None:
        self._rng = rng
        self._dids = (*dids, *dids, "did:plc:" + "z" * 24, "did:web:example.com")
        self._odd_dids = ("did:web:localhost%3A80", "did:a:" + "b" * 2_000, "did:a:b")

    def path(self) -> str:
        """Return a path for a record."""
        return f"{self._pick(NSIDS)}/{self.rkey()}"

    def rkey(self) -> str:
        """Return a record key."""
        return self._pick(ODD_KEYS if self._rng.random() < 0.25 else TIDS)

    def record(self, nsid: str) -> bytes:
        """Return the bytes of a record that can be kept, of a valid shape or not."""
        made: Any = _MADE.get(nsid, Kinds._thing)(self)
        made["$type"] = nsid
        if self._rng.random() < 0.2:
            self._spoil(made)
        return cbor.encode(made)

    def unkept(self) -> bytes:
        """Return the bytes of a record that cannot be kept."""
        deep: Any = "did:plc:" + "a" * 24
        for _ in range(40):
            deep = [deep]
        return self._pick(
            (
                cbor.encode([1, 2, 3]),
                cbor.encode("text"),
                cbor.encode({"deep": deep}),
                b"\xa2ab\x01aa\x02",
                b"\xa1aa\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",
                b"",
                b"\xff",
            )
        )

    def _pick(self, values: Sequence[Any]) -> Any:
        return self._rng.choice(values)

    def _did(self) -> str:
        odd = self._rng.random() < 0.05
        return str(self._pick(self._odd_dids if odd else self._dids))

    def _uri(self, *nsids: str) -> str:
        if self._rng.random() < 0.1:
            return str(
                self._pick(
                    (
                        f"at://{self._did()}",
                        f"at://{self._did()}/{FEED_POST}",
                        f"at://alice.test/{FEED_POST}/{TIDS[0]}",
                        f"at://{self._did()}/{FEED_POST}/{TIDS[0]}/more",
                        f"at://{self._did()}/{FEED_POST}/a b",
                        self._did(),
                        "at://",
                        "https://example.org/",
                    )
                )
            )
        nsid = self._pick(nsids or (FEED_POST, FEED_POST, FEED_POST, *NSIDS))
        return f"at://{self._did()}/{nsid}/{self.rkey()}"

    def _reference(self, *nsids: str) -> dict[str, Any]:
        return reference(self._uri(*nsids))

    def _time(self) -> str:
        return str(self._pick(_TIMES))

    def _text(self) -> str:
        return str(self._pick(_TEXTS))

    def _blob(self) -> dict[str, Any]:
        cid = self._pick((raw_cid_for(b"blob"), cid_for(b"not a blob")))
        return {
            "$type": "blob",
            "ref": Cid(cid) if self._rng.random() < 0.8 else b"\x01" * 36,
            "mimeType": "image/png",
            "size": 4,
        }

    def _post(self) -> dict[str, Any]:
        made = post(self._text(), createdAt=self._time())
        rng = self._rng
        if rng.random() < 0.15:
            # More links than are taken, in front of all others.
            made["all"] = [self._did() for _ in range(6)] + [self._uri()]
        if rng.random() < 0.4:
            made["reply"] = {"root": self._reference(), "parent": self._reference()}
        if rng.random() < 0.5:
            made["embed"] = self._embed()
        if rng.random() < 0.3:
            made["facets"] = [self._facet() for _ in range(rng.randrange(3))]
        if rng.random() < 0.2:
            made["tags"] = [self._text(), "tag", 1]
        if rng.random() < 0.3:
            made["langs"] = [self._text(), "en", None]
        return made

    def _embed(self) -> dict[str, Any]:
        external = {"uri": "https://example.org/" + self._text()[:9], "title": "card"}
        return dict(
            self._pick(
                (
                    {"$type": "app.bsky.embed.record", "record": self._reference()},
                    {
                        "$type": "app.bsky.embed.recordWithMedia",
                        "record": {"record": self._reference()},
                        "media": {"$type": "app.bsky.embed.images", "images": []},
                    },
                    # The same post twice, by both paths of a quote.
                    {
                        "$type": "app.bsky.embed.record",
                        "record": {"record": (same := self._reference()), **same},
                    },
                    {"$type": "app.bsky.embed.external", "external": external},
                    {"$type": "app.bsky.embed.video", "alt": self._text()},
                )
            )
        )

    def _facet(self) -> dict[str, Any]:
        facet: dict[str, Any] = {
            "features": [
                {"$type": "app.bsky.richtext.facet#mention", "did": self._did()},
                {"$type": "app.bsky.richtext.facet#tag", "tag": self._text()},
                {"$type": "app.bsky.richtext.facet#link", "uri": self._uri()},
            ]
        }
        if self._rng.random() < 0.5:
            facet["$type"] = "app.bsky.richtext.facet"
        return facet

    def _subject(self) -> dict[str, Any]:
        made: dict[str, Any] = {"subject": self._reference(), "createdAt": self._time()}
        if self._rng.random() < 0.2:
            made["via"] = self._reference(FEED_REPOST, FEED_LIKE)
        return made

    def _account(self) -> dict[str, Any]:
        return {"subject": self._did(), "createdAt": self._time()}

    def _list(self) -> dict[str, Any]:
        return {
            "purpose": "app.bsky.graph.defs#curatelist",
            "name": self._text(),
            "description": self._text(),
            "avatar": self._blob(),
            "createdAt": self._time(),
        }

    def _list_item(self) -> dict[str, Any]:
        return {"list": self._uri(GRAPH_LIST), **self._account()}

    def _list_block(self) -> dict[str, Any]:
        return {"subject": self._uri(GRAPH_LIST), "createdAt": self._time()}

    def _feed(self) -> dict[str, Any]:
        return {
            "did": self._did(),
            "displayName": self._text(),
            "description": self._text(),
            "createdAt": self._time(),
        }

    def _pack(self) -> dict[str, Any]:
        return {
            "name": self._text(),
            "list": self._uri(GRAPH_LIST),
            "feeds": [{"uri": self._uri(FEED_GENERATOR)}],
            "createdAt": self._time(),
        }

    def _gate(self) -> dict[str, Any]:
        return {
            "post": self._uri(FEED_POST),
            "allow": [{"$type": f"{FEED_THREADGATE}#listRule", "list": self._uri()}],
            "createdAt": self._time(),
        }

    def _profile(self) -> dict[str, Any]:
        return {
            "displayName": self._text(),
            "description": self._text(),
            "avatar": self._blob(),
            "pinnedPost": self._reference(),
            "createdAt": self._time(),
        }

    def _labeler(self) -> dict[str, Any]:
        return {"policies": {"labelValues": []}, "createdAt": self._time()}

    def _thing(self) -> dict[str, Any]:
        return {
            "title": self._text(),
            "ref": self._uri(),
            self._pick(("who", "no-name", "w" * 70)): [self._did(), [self._did()]],
            "nested": [{"$type": f"{NOTE}#part", "uri": self._uri()}, {"uri": "did:"}],
        }

    def _spoil(self, made: dict[str, Any]) -> None:
        """Give a field another shape, or take it away."""
        field = self._pick(sorted(made))
        odd = self._pick(
            (
                *(None, 1, [], {}, "", b"\x00", [self._uri()], {"uri": self._uri()}),
                *(self._did(), Cid(cid_for(b"odd")), -(2**63), True),
            )
        )
        if self._rng.random() < 0.3:
            del made[field]
        else:
            made[field] = odd


_MADE: Final[dict[str, Callable[[Kinds], dict[str, Any]]]] = {
    FEED_POST: Kinds._post,
    FEED_LIKE: Kinds._subject,
    FEED_REPOST: Kinds._subject,
    GRAPH_FOLLOW: Kinds._account,
    GRAPH_BLOCK: Kinds._account,
    GRAPH_LIST: Kinds._list,
    GRAPH_LISTITEM: Kinds._list_item,
    "app.bsky.graph.listblock": Kinds._list_block,
    "app.bsky.graph.verification": Kinds._account,
    FEED_GENERATOR: Kinds._feed,
    GRAPH_STARTERPACK: Kinds._pack,
    FEED_THREADGATE: Kinds._gate,
    "app.bsky.feed.postgate": Kinds._gate,
    ACTOR_PROFILE: Kinds._profile,
    LABELER_SERVICE: Kinds._labeler,
}
