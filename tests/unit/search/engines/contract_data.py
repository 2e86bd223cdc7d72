"""The documents of the contract suite that every engine passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from search.documents import ActorDocument, RecordDocument
from search.engines.contract import SearchEngine
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.pool import Conn
from storage.records.addresses import Address

POST = COLLECTION_IDS[FEED_POST]
OTHER = 99
AGES = 98
LISTED = 97
START = datetime(2026, 1, 1, tzinfo=UTC)
DIDS = {n: f"did:plc:{'abcdefgh'[n - 1] * 24}" for n in range(1, 9)}
PARENT = f"at://{DIDS[1]}/{FEED_POST}/3kParentKey"
ROOT = f"at://{DIDS[1]}/{FEED_POST}/3kRootKey"
QUOTED = f"at://{DIDS[2]}/{FEED_POST}/it's \\ quoted"
YEARS = (1066, 1683, 1969, 2148)
ODD_TAGS = (
    "it's",
    'say "hi"',
    "back\\slash",
    "(a or b)",
    "日本",
    "ＦＵＬＬ",
    "🌞",
    "a,b]",
)


def document(n: int, text: str, **fields: Any) -> RecordDocument:
    """Return the post of a record key; `fields` replace the others."""
    actor = fields.pop("actor", 1)
    base = RecordDocument(
        address=Address(actor, fields.pop("collection", POST), n),
        uri="",
        collection=FEED_POST,
        rkey=str(n),
        did=DIDS[actor],
        handle=None,
        title="",
        text=text,
        langs=(),
        tags=(),
        mentions=(),
        domains=(),
        urls=(),
        features=(),
        quotes=(),
        reply_parent=None,
        reply_root=None,
        created_at=START,
        sort_at=START + timedelta(minutes=abs(n) % 10_000),
        likes=0,
        reposts=0,
        replies=0,
        quote_count=0,
    )
    return replace(base, **fields)


POSTS = [
    document(1, "The quick brown fox", langs=("en-US",), tags=("Fox",), likes=3),
    document(2, "A slow brown bear sleeps", langs=("en",), likes=9),
    document(3, "Un café très bon", langs=("fr",), actor=2),
    document(4, "日本語の天気", langs=("ja",), actor=2),
    document(
        5,
        "see https://www.example.com/a/",
        domains=("www.example.com",),
        urls=("https://www.example.com/a/",),
        features=("link",),
        mentions=(DIDS[3],),
        actor=2,
    ),
    document(6, "it's 🌞 o'clock \\ 'quoted'"),
    document(8, "brown fox brown fox brown"),
    document(9, "fox brown quick the", actor=3),
    document(
        10,
        "an answer of mine",
        features=("reply",),
        reply_parent=PARENT,
        reply_root=ROOT,
    ),
    document(11, "look at that", features=("quote",), quotes=(QUOTED,), actor=3),
    document(12, "a picture", features=("media", "images"), langs=("en", "de")),
    document(13, "a film", features=("media", "video"), actor=3),
    document(14, "สวัสดีครับ", langs=("th",)),
    document(15, "नमस्ते दुनिया", langs=("hi",)),
    document(16, "안녕하세요 세계", langs=("ko",)),
    document(17, "مرحبا بالعالم", langs=("ar",)),
    document(18, "Привет мир", langs=("ru",)),
    document(19, "καλημέρα κόσμε", langs=("el",)),
    document(20, "שלום עולם", langs=("he",)),
    document(21, "我爱北京天安门", langs=("zh",)),
    document(22, "Straße über Köln", langs=("de",)),
    document(23, "one two three four five six seven eight nine ten eleven twelve"),
    document(24, "den animals", tags=("Fox", "Bears"), actor=3),
    document(
        25,
        "two links",
        domains=("news.example.org", "example.com"),
        urls=("https://news.example.org/B?q=1", "https://example.com/x"),
        features=("link",),
    ),
    document(26, "hello both", mentions=(DIDS[3], DIDS[4])),
    document(27, "bear fox", actor=3),
    document(28, "a b ringed c a c d ring b c", actor=4),
    document(29, "alpha beta gamma", title="delta epsilon", actor=4),
    document(30, "alpha gamma", actor=4, langs=("en",)),
    document(31, "beta gamma", actor=4, langs=("fr",), features=("media", "images")),
    document(-5, "key negated", sort_at=START),
    document(-(2**63) + 1, "key smallest", sort_at=START),
    document(2**63 - 1, "key largest", sort_at=START),
    *(document(40 + i, "tagged", tags=(tag,)) for i, tag in enumerate(ODD_TAGS)),
]
PAGED = [document(100 + i, f"page number{i % 2}", likes=i % 5) for i in range(25)]
FOREIGN = [document(7, "brown things elsewhere", collection=OTHER)]
AGED = [
    document(year * 10 + i, "longago", collection=AGES, sort_at=at, actor=1 + i)
    for year in YEARS
    for at in [datetime(year, 12, 31, 23, 59, 59, 123_457, UTC)]
    for i in range(3)
]


def actor(n: int, handle: str, name: str, about: str, followers: int) -> ActorDocument:
    """Return an account."""
    return ActorDocument(n, DIDS[n], handle, name, about, None, followers, 0, 0)


ACTORS = [
    actor(1, "alice.test", "Alice Liddell", "likes rabbits", 0),
    actor(2, "bob.test", "Bob", "friend of alice", 5),
    actor(3, "alicia.example.com", "Alícia", "", 50),
    actor(4, "alina.test", "アリナ 日本", "", 7),
    actor(5, "alison.test", "Alison O'Neil", "", 7),
    actor(6, "zoe.test", "Zoë 🌞", "rabbits too", 1),
]


def fill(conn: Conn, engine: SearchEngine) -> None:
    """Write the documents of the suite, and the rows that engines join."""
    for number, did in DIDS.items():
        conn.execute("INSERT INTO actor (id, did) VALUES (%s, %s)", (number, did))
    for one in [*POSTS, *PAGED]:
        if one.likes:
            conn.execute(
                "INSERT INTO post_stats (actor, rkey, likes) VALUES (%s, %s, %s)",
                (one.address.actor, one.address.rkey, one.likes),
            )
    for account in ACTORS:
        conn.execute(
            "INSERT INTO actor_stats (actor, followers) VALUES (%s, %s)",
            (account.actor, account.followers),
        )
    conn.commit()
    engine.put(conn, [*POSTS, *PAGED, *FOREIGN, *AGED])
    engine.put(conn, ACTORS)
    conn.commit()
