"""Topics of recent posts: tags and linked domains, counted by distinct accounts.

A topic is `#tag` or a domain. The drain notes the topics of new posts; a scheduled task
compares the last hours with the week before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from search.documents import RecordDocument
from search.text.tags import normalize_tag
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.pool import Conn

OBSERVED: Final = timedelta(hours=2)
"""Age of the posts that make a topic of the moment."""
EXPECTED: Final = timedelta(days=7)
"""Age of the hours that say how usual a topic is."""
MIN_ACCOUNTS: Final = 2
"""Accounts of an hour below which it is not counted."""
MAX_TRENDS: Final = 50
MAX_ACTORS: Final = 10
_HOUR: Final = timedelta(hours=1)
_KEPT: Final = OBSERVED + _HOUR
_MAX_TAGS: Final = 5
_MAX_DOMAINS: Final = 2
_MAX_TOPIC_CHARS: Final = 100
_POST: Final = COLLECTION_IDS[FEED_POST]


@dataclass(frozen=True, slots=True)
class Trend:
    """A topic with its posts of the last hours; `actors` posted last."""

    topic: str
    rising: bool
    """True if more accounts than usual use it."""
    accounts: int
    posts: int
    started_at: datetime
    actors: list[int]
    usual: float = 0.0
    """Accounts that use it in two hours of the week before, on average."""

    def explain(self) -> str:
        """Return the reason in words: from how many to how many accounts."""
        accounts = f"{self.accounts:,} account{'' if self.accounts == 1 else 's'}"
        usual = round(self.usual)
        if usual == self.accounts:
            return f"{accounts} in two hours, as usual"
        return f"from {usual:,} to {accounts} in two hours"


def note_topics(conn: Conn, documents: Iterable[RecordDocument], now: datetime) -> None:
    """Note the topics of posts of the last hours, each once. Does not commit."""
    rows = [
        (topic, document.address.actor, document.address.rkey, document.sort_at)
        for document in documents
        if document.address.collection == _POST
        and now - OBSERVED < document.sort_at <= now
        for topic in topics_of(document)
    ]
    if rows:
        columns = [list(column) for column in zip(*sorted(rows), strict=True)]
        conn.execute(
            "INSERT INTO search_topic (topic, actor, rkey, at) SELECT * FROM"
            " unnest(%s::text[], %s::int4[], %s::int8[], %s::timestamptz[])"
            " ON CONFLICT DO NOTHING",
            columns,
        )


def topics_of(document: RecordDocument) -> set[str]:
    """Return the topics of a post: its first tags and domains."""
    return {*_tags(document.tags), *_domains(document.domains)}


def _tags(tags: Sequence[str]) -> Iterator[str]:
    for tag in tags[:_MAX_TAGS]:
        name = normalize_tag(tag).strip()
        if name:
            yield f"#{name}"[:_MAX_TOPIC_CHARS]


def _domains(domains: Sequence[str]) -> Iterator[str]:
    for domain in domains[:_MAX_DOMAINS]:
        if "." in domain and len(domain) <= _MAX_TOPIC_CHARS:
            yield domain.removeprefix("www.")


def count_topics(conn: Conn, now: datetime) -> int:
    """Count the accounts of the past hour and write the topics of the moment.

    Returns their number. Does not commit.
    """
    hour = now.replace(minute=0, second=0, microsecond=0)
    conn.execute(
        """
        INSERT INTO search_topic_hour (topic, hour, accounts)
        SELECT topic, date_trunc('hour', at, 'UTC'), count(DISTINCT actor)
        FROM search_topic WHERE at >= %(from)s AND at < %(hour)s
        GROUP BY 1, 2 HAVING count(DISTINCT actor) >= %(least)s
        ON CONFLICT (topic, hour) DO UPDATE SET accounts = excluded.accounts
        """,
        {"from": hour - _HOUR, "hour": hour, "least": MIN_ACCOUNTS},
    )
    conn.execute("DELETE FROM search_topic WHERE at < %s", (now - _KEPT,))
    conn.execute("DELETE FROM search_topic_hour WHERE hour < %s", (now - EXPECTED,))
    conn.execute("DELETE FROM search_trend")
    return conn.execute(
        """
        INSERT INTO search_trend
            (place, topic, rising, accounts, posts, started_at, actors, usual)
        WITH observed AS (
            SELECT topic, count(DISTINCT actor) AS accounts, count(*) AS posts,
                   min(at) AS first_at
            FROM search_topic WHERE at > %(since)s
            GROUP BY topic HAVING count(DISTINCT actor) >= %(least)s
        ), scored AS (
            SELECT o.*, e.usual, coalesce(e.first_hour, first_at) AS started_at,
                   (o.accounts - e.usual) / sqrt(e.usual + 1) AS score,
                   o.accounts > 2 * e.usual AS rising
            FROM observed o CROSS JOIN LATERAL (
                SELECT coalesce(sum(accounts), 0) * %(share)s::float8 AS usual,
                       min(hour) FILTER (WHERE hour >= %(day)s) AS first_hour
                FROM search_topic_hour h
                WHERE h.topic = o.topic AND h.hour < %(before)s
            ) e
            ORDER BY rising DESC, score DESC, accounts DESC, topic LIMIT %(most)s
        )
        SELECT row_number() OVER (
                   ORDER BY rising DESC, score DESC, accounts DESC, topic),
               topic, rising, accounts, posts, started_at,
               ARRAY(SELECT actor FROM search_topic t
                     WHERE t.topic = scored.topic AND t.at > %(since)s
                     GROUP BY actor ORDER BY max(at) DESC, actor LIMIT %(actors)s),
               usual
        FROM scored
        """,
        {
            "since": now - OBSERVED,
            "before": hour - OBSERVED,
            "day": now - timedelta(days=1),
            "share": OBSERVED / EXPECTED,
            "least": MIN_ACCOUNTS,
            "most": MAX_TRENDS,
            "actors": MAX_ACTORS,
        },
    ).rowcount


def find_trends(conn: Conn) -> list[Trend]:
    """Return the topics of the moment, those on the rise first."""
    rows = conn.execute(
        "SELECT topic, rising, accounts, posts, started_at, actors, usual"
        " FROM search_trend ORDER BY place"
    )
    return [Trend(*row) for row in rows]
