"""The corpus as rows of an index, and in a search engine through the outbox."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bench.metric import Progress
from bench.relevance.corpus import Post
from indexer.collections.texts import TEXTS
from protocol.data.cbor import encode
from search.documents import Document, RecordDocument
from search.drain import drain_outbox
from search.engines.contract import SearchEngine
from search.rebuild import work_beside
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.outbox import put_outbox
from storage.postgres.pool import Conn, Pool
from storage.records.addresses import Address
from storage.records.record_rows import copy_records, pack_records

POST: Final = COLLECTION_IDS[FEED_POST]
_START: Final = datetime(2025, 1, 1, tzinfo=UTC)
_MINUTES: Final = 365 * 24 * 60
_BATCH: Final = 1_000
# Likes have a long tail, and are independent of the subject of a post.
_TAIL: Final = 0.9
_MOST_LIKES: Final = 5_000


@dataclass(frozen=True, slots=True)
class Placed:
    """A post with its author, time, address and likes in the index."""

    post: Post
    did: str
    handle: str
    at: datetime
    address: Address
    likes: int

    @property
    def record(self) -> dict[str, Any]:
        """Return the record of the post."""
        value: dict[str, Any] = {
            "$type": FEED_POST,
            "text": self.post.text,
            "langs": [self.post.lang],
            "createdAt": self.at.isoformat().replace("+00:00", "Z"),
        }
        if facets := [_tag_facet(self.post.text, tag) for tag in self.post.tags]:
            value["facets"] = facets
        if self.post.alts:
            images = [{"alt": alt, "image": {}} for alt in self.post.alts]
            value["embed"] = {"$type": "app.bsky.embed.images", "images": images}
        elif self.post.link is not None:
            uri, title, description = self.post.link
            card = {"uri": uri, "title": title, "description": description}
            value["embed"] = {"$type": "app.bsky.embed.external", "external": card}
        return value


def place_posts(posts: Sequence[Post]) -> list[Placed]:
    """Give each post an author, a time, an address and likes.

    They depend on the name of the post only, not on the other posts.
    """
    actors: dict[str, int] = {}
    used: set[Address] = set()
    placed: list[Placed] = []
    for post in posts:
        draw = random.Random(f"place of {post.name}")
        handle = f"{post.author}.{post.lang}.test"
        actor = actors.setdefault(handle, len(actors) + 1)
        at = _START + timedelta(minutes=draw.randrange(_MINUTES))
        rkey = int(at.timestamp() * 1_000_000) << 10 | draw.randrange(1024)
        while Address(actor, POST, rkey) in used:
            rkey += 1
        address = Address(actor, POST, rkey)
        used.add(address)
        likes = min(_MOST_LIKES, int(draw.paretovariate(_TAIL)) - 1)
        placed.append(Placed(post, _did(actor), handle, at, address, likes))
    return placed


def store_posts(conn: Conn, placed: Sequence[Placed]) -> None:
    """Write the rows of posts in an empty index, and queue them for search."""
    actors = {p.address.actor: p for p in placed}
    with conn.transaction(), conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO actor (id, did, handle) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, %s, %s)",
            [(actor, p.did, p.handle) for actor, p in actors.items()],
        )
        cursor.executemany(
            "INSERT INTO repo (actor) VALUES (%s)", [(actor,) for actor in actors]
        )
        ordered = sorted(placed, key=lambda p: p.address)
        values = [encode(p.record) for p in ordered]
        copy_records(conn, pack_records([p.address for p in ordered], values))
        with cursor.copy(
            "COPY post (actor, rkey, sort_at, created_at, indexed_at, media, langs)"
            " FROM STDIN"
        ) as copy:
            for p in ordered:
                row = p.address.actor, p.address.rkey, p.at, p.at, p.at, 0
                copy.write_row((*row, [p.post.lang]))
        with cursor.copy("COPY post_stats (actor, rkey, likes) FROM STDIN") as copy:
            for p in ordered:
                copy.write_row((p.address.actor, p.address.rkey, p.likes))
        put_outbox(conn, [p.address for p in ordered])


class Recorder:
    """An engine in front of another one that keeps the documents of records."""

    def __init__(self, engine: SearchEngine) -> None:
        self._engine = engine
        self.name = engine.name
        self.documents: list[RecordDocument] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def put(self, conn: Any, documents: Sequence[Document]) -> None:
        """Keep and pass on documents."""
        self.documents += [d for d in documents if isinstance(d, RecordDocument)]
        self._engine.put(conn, documents)


def fill_engine(
    pool: Pool, engine: SearchEngine, total: int, progress: Progress
) -> list[RecordDocument]:
    """Drain the outbox into an engine; return the documents of the records."""
    recorder = Recorder(engine)
    done = 0
    while done < total:
        with pool.connection() as conn:
            done += drain_outbox(conn, recorder, TEXTS, _BATCH)
        progress.count(f"documents of {engine.name}", min(done, total), total)
    with pool.connection() as conn:
        while work_beside(conn, engine, TEXTS):
            pass
    return recorder.documents


def _did(actor: int) -> str:
    digits = str(actor).translate(str.maketrans("0123456789", "abcdefghij"))
    return f"did:plc:judged{digits:a>18}"


def _tag_facet(text: str, tag: str) -> dict[str, Any]:
    start = len(text[: text.index(f"#{tag}")].encode())
    end = start + len(f"#{tag}".encode())
    return {
        "index": {"byteStart": start, "byteEnd": end},
        "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": tag}],
    }
