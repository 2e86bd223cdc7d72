"""Activity by hour, kept by triggers, and the schema `analytics` of views for SQL."""

from __future__ import annotations

from alembic import op

revision = "0030"
down_revision = "0029"

_TABLES = """
CREATE TABLE activity (
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    kind SMALLINT NOT NULL,
    key TEXT NOT NULL,
    n BIGINT NOT NULL,
    CONSTRAINT activity_pkey PRIMARY KEY (at, kind, key)
);
CREATE TABLE activity_change (
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    kind SMALLINT NOT NULL,
    key TEXT NOT NULL,
    n BIGINT NOT NULL
);
CREATE TABLE record_json (
    actor INTEGER NOT NULL,
    collection INTEGER NOT NULL,
    rkey BIGINT NOT NULL,
    record JSONB NOT NULL,
    CONSTRAINT record_json_pkey PRIMARY KEY (actor, collection, rkey)
);
"""
# Hours of the last weeks, days before them: a repo of years is a few rows. Dates before
# the network began are one day.
_BUCKETS = """
CREATE FUNCTION activity_day(at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT date_trunc('day', greatest(at, '2022-01-01T00:00:00Z'::timestamptz), 'UTC')
$$;
CREATE FUNCTION activity_hour(at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN at > now() - interval '35 days'
        THEN date_trunc('hour', at, 'UTC') ELSE activity_day(at) END
$$;
"""
_FUNCTIONS = """
CREATE FUNCTION count_links() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO activity_change (at, kind, key, n)
    SELECT activity_hour(sort_at), path, '', TG_ARGV[0]::int8 * count(*)
    FROM changed WHERE path BETWEEN 1 AND 4 GROUP BY 1, 2;
    RETURN NULL;
END $$;
CREATE FUNCTION count_posts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO activity_change (at, kind, key, n)
    SELECT activity_hour(sort_at), 0, '', TG_ARGV[0]::int8 * count(*)
    FROM changed GROUP BY 1
    UNION ALL
    SELECT activity_day(sort_at), 10, lang, TG_ARGV[0]::int8 * count(*)
    FROM changed, LATERAL (
        SELECT DISTINCT left(split_part(lower(l), '-', 1), 8) AS lang
        FROM unnest(langs) AS l
    ) AS declared WHERE lang <> '' GROUP BY 1, 3;
    RETURN NULL;
END $$;
"""
_COUNTED = ("link", "link_like", "link_repost", "link_follow", "link_block", "post")


_EVENTS = (
    ("INSERT", "NEW", 1),
    ("DELETE", "OLD", -1),
    ("UPDATE", "NEW", 1),
    ("UPDATE", "OLD", -1),
)


def _names() -> list[tuple[str, str, str, str, int]]:
    return [
        (table, f"{table}_{event.lower()}_{rows.lower()}_counted", event, rows, sign)
        for table in _COUNTED
        for event, rows, sign in _EVENTS
    ]


def _triggers() -> str:
    parts = []
    for table, name, event, rows, sign in _names():
        function = "count_posts" if table == "post" else "count_links"
        parts.append(
            f"CREATE TRIGGER {name} AFTER {event} ON {table}"
            f" REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT"
            f" EXECUTE FUNCTION {function}('{sign}');"
        )
    return "\n".join(parts)


_SIGNS = "234567abcdefghijklmnopqrstuvwxyz"
_LETTERS = " || ".join(
    f"substr('{_SIGNS}', (number >> {shift} & 31)::int4 + 1, 1)"
    for shift in range(60, -1, -5)
)
_SHOWN = "{0}.upstream_status = 'active' AND {0}.takedown IS NULL"
_URI = "'at://' || {0}.did || '/' || '{1}' || '/' || analytics.rkey_text({2})"
_POST_NSID = "app.bsky.feed.post"


def _edges(path: int, subject: str) -> str:
    return f"""
    SELECT a.did, analytics.rkey_text(l.rkey) AS rkey, {subject},
        l.sort_at AS created_at
    FROM link l JOIN actor a ON a.id = l.actor JOIN actor t ON t.id = l.target_actor
    WHERE l.path = {path} AND {_SHOWN.format("a")}
    """


_RECORD_URI = (
    "'at://' || t.did || '/' || (SELECT nsid FROM collection c"
    " WHERE c.id = l.target_collection) || '/' || analytics.rkey_text(l.target_rkey)"
)

_VIEWS = {
    "actors": f"""
    SELECT a.did, a.handle, p.display_name, p.description, p.created_at,
        a.indexed_at, coalesce(s.followers, 0) AS followers,
        coalesce(s.follows, 0) AS follows, coalesce(s.posts, 0) AS posts,
        h.hostname AS host
    FROM actor a LEFT JOIN profile p ON p.actor = a.id
        LEFT JOIN actor_stats s ON s.actor = a.id
        LEFT JOIN repo r ON r.actor = a.id LEFT JOIN host h ON h.id = r.host
    WHERE {_SHOWN.format("a")}
    """,
    "posts": f"""
    SELECT {_URI.format("a", _POST_NSID, "p.rkey")} AS uri, a.did,
        analytics.rkey_text(p.rkey) AS rkey, p.created_at, p.indexed_at, p.sort_at,
        j.record ->> 'text' AS text, p.langs,
        {_URI.format("pa", _POST_NSID, "p.parent_rkey")} AS reply_parent,
        {_URI.format("ra", _POST_NSID, "p.root_rkey")} AS reply_root,
        coalesce(s.likes, 0) AS likes, coalesce(s.reposts, 0) AS reposts,
        coalesce(s.replies, 0) AS replies, coalesce(s.quotes, 0) AS quotes
    FROM post p JOIN actor a ON a.id = p.actor
        LEFT JOIN actor pa ON pa.id = p.parent_actor
        LEFT JOIN actor ra ON ra.id = p.root_actor
        LEFT JOIN post_stats s ON s.actor = p.actor AND s.rkey = p.rkey
        LEFT JOIN record_json j ON j.actor = p.actor AND j.collection = 1
            AND j.rkey = p.rkey
    WHERE {_SHOWN.format("a")}
    """,
    "likes": _edges(1, f"{_RECORD_URI} AS subject_uri"),
    "reposts": _edges(2, f"{_RECORD_URI} AS subject_uri"),
    "follows": _edges(3, "t.did AS subject_did"),
    "blocks": _edges(4, "t.did AS subject_did"),
    "lists": f"""
    SELECT {_URI.format("a", "app.bsky.graph.list", "l.rkey")} AS uri, a.did,
        analytics.rkey_text(l.rkey) AS rkey, l.purpose, l.name, l.description,
        l.created_at, l.indexed_at
    FROM list l JOIN actor a ON a.id = l.actor WHERE {_SHOWN.format("a")}
    """,
    "links": f"""
    SELECT a.did, c.nsid AS collection, analytics.rkey_text(l.rkey) AS rkey, p.path,
        CASE WHEN l.target_collection = 0 THEN t.did ELSE {_RECORD_URI} END AS target,
        l.sort_at AS created_at
    FROM link l JOIN actor a ON a.id = l.actor JOIN path p ON p.id = l.path
        JOIN collection c ON c.id = p.collection
        LEFT JOIN actor t ON t.id = l.target_actor
    WHERE {_SHOWN.format("a")}
    """,
    "labels": """
    SELECT s.did AS src, CASE WHEN l.collection = 0 THEN a.did
            ELSE 'at://' || a.did || '/' || (SELECT nsid FROM collection c
                WHERE c.id = l.collection) || '/' || analytics.rkey_text(l.rkey)
        END AS uri, l.val, l.neg, l.cts, l.exp
    FROM label l JOIN actor a ON a.id = l.actor JOIN actor s ON s.id = l.src
    """,
    "hosts": """
    SELECT h.hostname AS host, h.state, count(r.actor) AS accounts,
        count(r.actor) FILTER (WHERE r.state = 'synchronized') AS synchronized
    FROM host h LEFT JOIN repo r ON r.host = h.id GROUP BY h.id
    """,
    "records": f"""
    SELECT 'at://' || a.did || '/' || c.nsid || '/' || analytics.rkey_text(j.rkey)
            AS uri, a.did, c.nsid AS collection, analytics.rkey_text(j.rkey) AS rkey,
        j.record
    FROM record_json j JOIN actor a ON a.id = j.actor
        JOIN collection c ON c.id = j.collection
    WHERE {_SHOWN.format("a")}
    """,
    "activity_hours": """
    SELECT at AS hour, analytics.kind_name(kind) AS kind, sum(n)::int8 AS records
    FROM (SELECT * FROM activity UNION ALL SELECT * FROM activity_change) AS counted
    WHERE kind < 10 AND at > now() - interval '34 days' GROUP BY at, kind
    """,
    "activity_days": """
    SELECT (date_trunc('day', at, 'UTC') AT TIME ZONE 'UTC')::date AS day,
        analytics.kind_name(kind) AS kind, sum(n)::int8 AS records
    FROM (SELECT * FROM activity UNION ALL SELECT * FROM activity_change) AS counted
    WHERE kind < 10 GROUP BY 1, kind
    """,
    "language_days": """
    SELECT (at AT TIME ZONE 'UTC')::date AS day, key AS lang, sum(n)::int8 AS posts
    FROM (SELECT * FROM activity UNION ALL SELECT * FROM activity_change) AS counted
    WHERE kind = 10 GROUP BY 1, key
    """,
    "active_days": """
    SELECT (at AT TIME ZONE 'UTC')::date AS day, n AS accounts
    FROM activity WHERE kind = 20
    """,
}
_SCHEMA = f"""
CREATE SCHEMA analytics;
CREATE FUNCTION analytics.rkey_text(number int8) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN number < 0 THEN (SELECT text FROM public.rkey WHERE id = number)
        ELSE {_LETTERS} END
$$;
CREATE FUNCTION analytics.kind_name(kind int2) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT (ARRAY['posts', 'likes', 'reposts', 'follows', 'blocks'])[kind + 1]
$$;
"""
# Roles belong to the whole server: another database may have made it, or be making it.
# Without a password it can log in only where the server trusts the connection.
_ROLE = """
DO $$ BEGIN
    CREATE ROLE bigworld_reader LOGIN;
    ALTER ROLE bigworld_reader SET statement_timeout = '60s';
    ALTER ROLE bigworld_reader SET default_transaction_read_only = on;
    ALTER ROLE bigworld_reader SET work_mem = '64MB';
    ALTER ROLE bigworld_reader SET hash_mem_multiplier = 1;
    ALTER ROLE bigworld_reader SET max_parallel_workers_per_gather = 0;
    ALTER ROLE bigworld_reader SET search_path = analytics;
EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END $$;
DO $$ BEGIN
    ALTER ROLE bigworld_reader SET temp_file_limit = '2GB';
EXCEPTION WHEN undefined_object OR insufficient_privilege OR internal_error THEN NULL;
END $$;
DO $$ BEGIN
    GRANT USAGE ON SCHEMA analytics TO bigworld_reader;
    GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO bigworld_reader;
    GRANT bigworld_reader TO current_user;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN NULL;
END $$;
"""


def upgrade() -> None:
    for part in (_TABLES, _BUCKETS, _FUNCTIONS, _triggers(), _SCHEMA):
        op.execute(part)
    for name, query in _VIEWS.items():
        op.execute(f"CREATE VIEW analytics.{name} AS {query}")
    op.execute(_COUNT_STORED)
    op.execute(_ROLE)
    op.execute("ALTER TABLE search_trend ADD COLUMN usual REAL NOT NULL DEFAULT 0")


# Rows that were stored before the triggers.
_COUNT_STORED = """
INSERT INTO activity (at, kind, key, n)
SELECT activity_hour(sort_at), path, '', count(*) FROM link
WHERE path BETWEEN 1 AND 4 GROUP BY 1, 2
UNION ALL
SELECT activity_hour(sort_at), 0, '', count(*) FROM post GROUP BY 1
UNION ALL
SELECT activity_day(sort_at), 10, lang, count(*) FROM post, LATERAL (
    SELECT DISTINCT left(split_part(lower(l), '-', 1), 8) AS lang
    FROM unnest(langs) AS l
) AS declared WHERE lang <> '' GROUP BY 1, 3
"""


def downgrade() -> None:
    op.execute("ALTER TABLE search_trend DROP COLUMN usual")
    op.execute("DROP SCHEMA analytics CASCADE")
    for table, name, *_ in _names():
        op.execute(f"DROP TRIGGER {name} ON {table}")
    op.execute("DROP FUNCTION count_posts, count_links, activity_hour, activity_day")
    op.execute("DROP TABLE record_json, activity_change, activity")
