"""Made-up records of the usual lexicons, to train the compression dictionary.

The same seed gives the same records. Shapes and shares of collections are those of the
public network; no text of a person is in them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from protocol.data.cid import BLOB_PREFIX, DATA_PREFIX, Cid
from protocol.syntax.datetime import datetime_from_us
from protocol.syntax.tid import tid_from_int
from storage import collections

_START_US: Final = 1_690_000_000_000_000
_SPAN_US: Final = 3 * 365 * 86_400 * 1_000_000
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"

_ENGLISH = (
    "the a of to and in is it that for on with this i you my was are be have not at "
    "just like what so they people time new good day today really think can all we "
    "know about from one more when how love would there who been now if or very first "
    "your their has some out up get make because going want see don't it's i'm can't "
    "post thread follow followers feed sky bluesky art photo cat dog coffee morning "
    "night music book game world news science climate vote happy birthday thank you"
)
_JAPANESE = (
    "今日 明日 おはよう ございます ありがとう です ます した して いる から "
    "まで 見た 写真 可愛い 猫 絵を描いた ゲーム 楽しい 寝る 仕事 行ってきます "
    "お疲れさま よろしく お願いします"
)
_PORTUGUESE = (
    "o a de que e do da em um para com não uma os no se na por mais as dos como mas "
    "foi ao ele das tem à seu sua ou ser quando muito bom dia gente hoje você obrigado"
)
_GERMAN = (
    "der die das und ist ich nicht ein eine zu mit auf für es im dem auch wie aber "
    "guten morgen heute schön danke wir sind noch nur schon mehr wenn immer"
)
_WORDS: Final = {
    "en": _ENGLISH.split(),
    "ja": _JAPANESE.split(),
    "pt": _PORTUGUESE.split(),
    "de": _GERMAN.split(),
}
_DOMAINS = ("example.com", "www.youtube.com", "github.com", "news.example.org")
_SHARES: Final = {
    "like": 48,
    "follow": 22,
    "post": 18,
    "repost": 7,
    "block": 3,
    "listitem": 1.2,
    "profile": 0.5,
    "threadgate": 0.2,
    "generator": 0.1,
    "list": 0.1,
}


def make_samples(seed: int, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `count` pairs of collection and record value, in the mix of the network."""
    samples = _Samples(seed)
    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        name: getattr(samples, name) for name in _SHARES
    }
    for name in samples.rng.choices(list(kinds), list(_SHARES.values()), k=count):
        record = kinds[name]()
        yield record["$type"], record


class _Samples:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def like(self) -> dict[str, Any]:
        record = self._subject(collections.FEED_LIKE)
        if self.rng.random() < 0.15:
            record["via"] = self._ref(collections.FEED_REPOST)
        return record

    def repost(self) -> dict[str, Any]:
        return self._subject(collections.FEED_REPOST)

    def follow(self) -> dict[str, Any]:
        return {
            "$type": collections.GRAPH_FOLLOW,
            "subject": self._did(),
            "createdAt": self._time(),
        }

    def block(self) -> dict[str, Any]:
        return self.follow() | {"$type": collections.GRAPH_BLOCK}

    def listitem(self) -> dict[str, Any]:
        return self.follow() | {
            "$type": collections.GRAPH_LISTITEM,
            "list": self._uri(collections.GRAPH_LIST),
        }

    def list(self) -> dict[str, Any]:
        return {
            "$type": collections.GRAPH_LIST,
            "purpose": self.rng.choice(
                ("app.bsky.graph.defs#curatelist", "app.bsky.graph.defs#modlist")
            ),
            "name": self._text("en", 3),
            "description": self._text("en", 15),
            "createdAt": self._time(),
        }

    def generator(self) -> dict[str, Any]:
        return {
            "$type": collections.FEED_GENERATOR,
            "did": "did:web:skyfeed.me",
            "avatar": self._blob("image/jpeg"),
            "createdAt": self._time(),
            "displayName": self._text("en", 3),
            "description": self._text("en", 15),
        }

    def threadgate(self) -> dict[str, Any]:
        return {
            "$type": collections.FEED_THREADGATE,
            "post": self._uri(collections.FEED_POST),
            "allow": [{"$type": "app.bsky.feed.threadgate#followingRule"}],
            "createdAt": self._time(),
            "hiddenReplies": [],
        }

    def profile(self) -> dict[str, Any]:
        record: dict[str, Any] = {
            "$type": collections.ACTOR_PROFILE,
            "avatar": self._blob("image/jpeg"),
            "banner": self._blob("image/jpeg"),
            "createdAt": self._time(),
            "description": self._text(self._lang(), 20),
            "displayName": self._text(self._lang(), 2),
        }
        if self.rng.random() < 0.2:
            record["pinnedPost"] = self._ref(collections.FEED_POST)
        return record

    def post(self) -> dict[str, Any]:
        lang = self._lang()
        text = self._text(lang, int(self.rng.triangular(2, 45, 12)))
        record: dict[str, Any] = {
            "$type": collections.FEED_POST,
            "text": text[:300],
            "langs": [lang],
            "createdAt": self._time(),
        }
        if self.rng.random() < 0.45:
            root = self._ref(collections.FEED_POST)
            deep = self.rng.random() < 0.5
            parent = self._ref(collections.FEED_POST) if deep else root
            record["reply"] = {"root": root, "parent": parent}
        if self.rng.random() < 0.2:
            record["facets"] = [self._facet(text) for _ in range(2)]
        draw = self.rng.random()
        if draw < 0.18:
            record["embed"] = self._images()
        elif draw < 0.25:
            record["embed"] = {
                "$type": "app.bsky.embed.record",
                "record": self._ref(collections.FEED_POST),
            }
        elif draw < 0.33:
            record["embed"] = self._external()
        elif draw < 0.36:
            record["embed"] = self._video()
        return record

    def _facet(self, text: str) -> dict[str, Any]:
        start = self.rng.randrange(max(len(text) - 10, 1))
        features: list[dict[str, Any]] = [
            {"$type": "app.bsky.richtext.facet#tag", "tag": "art"},
            {"$type": "app.bsky.richtext.facet#mention", "did": self._did()},
            {"$type": "app.bsky.richtext.facet#link", "uri": self._url()},
        ]
        return {
            "index": {"byteStart": start, "byteEnd": start + 10},
            "features": [self.rng.choice(features)],
        }

    def _images(self) -> dict[str, Any]:
        image = {
            "alt": "",
            "image": self._blob("image/jpeg"),
            "aspectRatio": {
                "width": self.rng.choice((2000, 1500, 1080, 1200)),
                "height": self.rng.choice((2000, 1500, 1125, 900)),
            },
        }
        return {"$type": "app.bsky.embed.images", "images": [image]}

    def _video(self) -> dict[str, Any]:
        return {
            "$type": "app.bsky.embed.video",
            "video": self._blob("video/mp4"),
            "aspectRatio": {"width": 1080, "height": 1920},
        }

    def _external(self) -> dict[str, Any]:
        return {
            "$type": "app.bsky.embed.external",
            "external": {
                "uri": self._url(),
                "thumb": self._blob("image/jpeg"),
                "title": self._text("en", 8),
                "description": self._text("en", 16),
            },
        }

    def _subject(self, nsid: str) -> dict[str, Any]:
        return {
            "$type": nsid,
            "subject": self._ref(collections.FEED_POST),
            "createdAt": self._time(),
        }

    def _lang(self) -> str:
        return self.rng.choices(list(_WORDS), (60, 18, 12, 10))[0]

    def _text(self, lang: str, words: int) -> str:
        joint = "" if lang == "ja" else " "
        return joint.join(self.rng.choices(_WORDS[lang], k=max(words, 1)))

    def _url(self) -> str:
        return f"https://{self.rng.choice(_DOMAINS)}/{self.rng.getrandbits(40):x}"

    def _time(self) -> str:
        return datetime_from_us(_START_US + self.rng.randrange(_SPAN_US))

    def _did(self) -> str:
        return "did:plc:" + "".join(self.rng.choices(_BASE32, k=24))

    def _uri(self, nsid: str) -> str:
        time_us = _START_US + self.rng.randrange(_SPAN_US)
        tid = tid_from_int(time_us << 10 | self.rng.randrange(1024))
        return f"at://{self._did()}/{nsid}/{tid}"

    def _ref(self, nsid: str) -> dict[str, Any]:
        digest = self.rng.randbytes(32)
        return {"cid": str(Cid(DATA_PREFIX + digest)), "uri": self._uri(nsid)}

    def _blob(self, mime_type: str) -> dict[str, Any]:
        return {
            "$type": "blob",
            "ref": Cid(BLOB_PREFIX + self.rng.randbytes(32)),
            "mimeType": mime_type,
            "size": self.rng.randrange(20_000, 990_000),
        }
