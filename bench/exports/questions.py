"""Five questions to an export in DuckDB, through its views."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from export.views import duckdb_views
from service.operator_errors import ServiceError

# Those of JSONBench, as docs/take-the-network-out.md has them.
QUESTIONS: Final = {
    "collections": """
        SELECT nsid, count(*) AS count FROM records GROUP BY nsid ORDER BY count DESC
    """,
    "accounts": """
        SELECT nsid, count(*) AS count, count(DISTINCT did) AS users
        FROM records GROUP BY nsid ORDER BY count DESC
    """,
    "hours": """
        SELECT nsid, hour(make_timestamp(time_us)) AS hour, count(*) AS count
        FROM records WHERE nsid IN ('app.bsky.feed.post', 'app.bsky.feed.repost',
            'app.bsky.feed.like') GROUP BY ALL ORDER BY hour, nsid
    """,
    "first_posters": """
        SELECT did, min(time_us) AS first FROM records
        WHERE nsid = 'app.bsky.feed.post' GROUP BY did ORDER BY first LIMIT 3
    """,
    "longest_activity": """
        SELECT did, (max(time_us) - min(time_us)) // 1000 AS span FROM records
        WHERE nsid = 'app.bsky.feed.post' GROUP BY did ORDER BY span DESC LIMIT 3
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
        db.execute(duckdb_views(f"{folder}/"))
        for name, question in QUESTIONS.items():
            started = time.perf_counter()
            rows: list[Any] = db.execute(question).fetchall()
            times[name] = time.perf_counter() - started
            assert rows, name
    return times
