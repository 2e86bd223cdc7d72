"""Five questions to an export, as an analyst asks them in DuckDB."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from service.operator_errors import ServiceError

QUESTIONS: Final = {
    "collections": """
        SELECT nsid, count(*) AS records, count(DISTINCT did) AS accounts
        FROM records GROUP BY nsid ORDER BY records DESC
    """,
    "hours": """
        SELECT hour(make_timestamp(time_us)) AS hour, nsid, count(*) AS records
        FROM records WHERE nsid IN ('app.bsky.feed.post', 'app.bsky.feed.repost',
            'app.bsky.feed.like') GROUP BY ALL ORDER BY hour, nsid
    """,
    "most_liked": """
        SELECT target_did, target_rkey, count(*) AS likes FROM links
        WHERE nsid = 'app.bsky.feed.like' AND path = '.subject.uri'
        GROUP BY ALL ORDER BY likes DESC LIMIT 10
    """,
    "first_posters": """
        SELECT did, min(time_us) AS first FROM records
        WHERE nsid = 'app.bsky.feed.post' GROUP BY did ORDER BY first LIMIT 3
    """,
    "languages": """
        SELECT unnest(langs) AS lang, count(*) AS posts FROM posts
        GROUP BY lang ORDER BY posts DESC LIMIT 10
    """,
}


def ask(folder: Path) -> dict[str, float]:
    """Return the seconds of each question over the files of an export."""
    try:
        import duckdb
    except ImportError as error:
        raise ServiceError("bench export needs duckdb: install it") from error
    times: dict[str, float] = {}
    with duckdb.connect() as db:
        for table in ("records", "links", "posts"):
            # An export without deletions has no tombstones.
            source = f"read_parquet('{folder / table}/**/*.parquet')"
            db.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}")
        for name, question in QUESTIONS.items():
            started = time.perf_counter()
            rows: list[Any] = db.execute(question).fetchall()
            times[name] = time.perf_counter() - started
            assert rows, name
    return times
