"""Lists of what is popular, and topics of recent posts."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE popular (
            generation int8 NOT NULL,
            collection int4 NOT NULL,
            place int4 NOT NULL,
            actor int4 NOT NULL,
            rkey int8 NOT NULL,
            CONSTRAINT popular_pkey PRIMARY KEY (generation, collection, place)
        );
        CREATE TABLE search_topic (
            topic text NOT NULL,
            actor int4 NOT NULL,
            rkey int8 NOT NULL,
            at timestamptz NOT NULL,
            CONSTRAINT search_topic_pkey PRIMARY KEY (topic, actor, rkey)
        );
        CREATE INDEX search_topic_at_idx ON search_topic (at);
        CREATE TABLE search_topic_hour (
            topic text NOT NULL,
            hour timestamptz NOT NULL,
            accounts int4 NOT NULL,
            CONSTRAINT search_topic_hour_pkey PRIMARY KEY (topic, hour)
        );
        CREATE INDEX search_topic_hour_hour_idx ON search_topic_hour (hour);
        CREATE TABLE search_trend (
            place int4 NOT NULL,
            topic text NOT NULL,
            rising bool NOT NULL,
            accounts int4 NOT NULL,
            posts int4 NOT NULL,
            started_at timestamptz NOT NULL,
            actors int4[] NOT NULL,
            CONSTRAINT search_trend_pkey PRIMARY KEY (place)
        );
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE popular, search_topic, search_topic_hour, search_trend")
