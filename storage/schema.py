"""Tables of the index database. SQLAlchemy describes them for migrations only; rows
are read and written through psycopg.

names       actor, collection, rkey, path
repos       host, host_move, host_source, host_cursor, repo, resync_buffer,
            quarantined_frame, drop_count
watching    gauge, pulse
records     record (8 partitions by actor), dropped_record, index_error, dictionary
edges       link (partitions by path, see storage.collections.LINK_PARTITIONS)
collections post, profile, feed_generator, list, list_item, starter_pack, labeler
labels      label
counts      post_stats, subject_stats, actor_stats
audit       audit_sample
identity    identity, handle_cache, jti, plc_log, plc_doubt, plc_feed, plc_host
work        search_outbox, job, lease
streams out event_block, event_counter
scope       scope, scope_account, selection

A record's address is (actor, collection, rkey): int4, int4, int8. A TID record key is
its own 63-bit number; any other key is a negative id of `rkey`.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from storage.collections import FIRST_FREE_ID
from storage.states import (
    REPO_DESYNCHRONIZED,
    REPO_STATES,
    STATUS_ACTIVE,
    UPSTREAM_STATUSES,
)

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

RECORD_PARTITIONS: Final = 8


def _int4(name: str, *args: Any, **kwargs: Any) -> sa.Column[int]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Integer, *args, **kwargs)


def _int8(name: str, *args: Any, **kwargs: Any) -> sa.Column[int]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.BigInteger, *args, **kwargs)


def _text(name: str, *args: Any, **kwargs: Any) -> sa.Column[str]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Text, *args, **kwargs)


def _bytes(name: str, *args: Any, **kwargs: Any) -> sa.Column[bytes]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.LargeBinary, *args, **kwargs)


def _flag(name: str, *args: Any, **kwargs: Any) -> sa.Column[bool]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Boolean, *args, **kwargs)


def _time(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.DateTime(timezone=True), *args, **kwargs)


_NOW: Final = sa.text("now()")
_ZERO: Final = sa.text("0")


def _one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


# names -----------------------------------------------------------------------

actor = sa.Table(
    "actor",
    metadata,
    _int4("id", sa.Identity(), primary_key=True),
    _text("did", unique=True),
    # verified both ways, lower case; NULL while unknown or when the check failed
    _text("handle", nullable=True, index=True),
    _time("handle_checked_at", nullable=True),
    # what the account's host says, and what we decided, never mixed
    _text("upstream_status", server_default=STATUS_ACTIVE),
    _text("takedown", nullable=True),
    _time("indexed_at", server_default=_NOW),
    _one_of("upstream_status", UPSTREAM_STATUSES),
)

collection = sa.Table(
    "collection",
    metadata,
    _int4("id", sa.Identity(start=FIRST_FREE_ID), primary_key=True),
    _text("nsid", unique=True),
)

rkey = sa.Table(
    "rkey",
    metadata,
    _int8(
        "id",
        sa.Identity(start=-FIRST_FREE_ID, increment=-1, minvalue=-(2**63)),
        primary_key=True,
    ),
    _text("text", unique=True),
)

path = sa.Table(
    "path",
    metadata,
    _int4("id", sa.Identity(start=FIRST_FREE_ID), primary_key=True),
    _int4("collection"),
    _text("path"),
    sa.UniqueConstraint("collection", "path"),
)

# repos -----------------------------------------------------------------------

host = sa.Table(
    "host",
    metadata,
    _int4("id", sa.Identity(), primary_key=True),
    _text("hostname", unique=True),
    _text("url"),
    # storage.hosts.HOST_STATES, and how it is followed while it is well
    _text("state", server_default="new"),
    _text("mode", server_default="stream"),
    _time("moved_at", server_default=_NOW),
    # configured | request_crawl | relay | did_document | plc
    _text("source", server_default="configured"),
    # a relay forwards other hosts' commits; we chose to trust it to do so
    _flag("relay", server_default=sa.false()),
    _time("first_seen", server_default=_NOW),
    _time("last_seen", nullable=True),
    # stream: events handled, and the time that the host wrote on the newest
    _int8("events", server_default=_ZERO),
    _time("last_event_at", nullable=True),
    # events a second: lately, and as it usually is; what they were counted from
    sa.Column("rate", sa.Float, nullable=False, server_default=_ZERO),
    sa.Column("usual_rate", sa.Float, nullable=False, server_default=_ZERO),
    _int8("measured_events", server_default=_ZERO),
    _time("measured_at", nullable=True),
    # times that its stream did not reach back to what we had
    _int4("gaps", server_default=_ZERO),
    _time("gap_at", nullable=True),
    # where listRepos stands, and when it last reached the end
    _text("list_cursor", nullable=True),
    _time("listed_at", nullable=True),
    _time("polled_at", nullable=True),
    # seconds between two polls; longer the longer nothing changed
    sa.Column("poll_every", sa.Float, nullable=True),
    # somebody asked for it to be crawled again
    _time("asked_at", nullable=True),
    # budget: what our operator said; NULL for the limit of all
    _int4("max_accounts", nullable=True),
    _int4("accounts_per_day", nullable=True),
    sa.Column("events_per_s", sa.Float, nullable=True),
    sa.Column("bytes_per_s", sa.Float, nullable=True),
    _int4("accounts", server_default=_ZERO),
    # new accounts let in on the day `admitted_on` (UTC)
    sa.Column("admitted_on", sa.Date, nullable=True),
    _int4("admitted", server_default=_ZERO),
    sa.Column("requests_per_s", sa.Float, nullable=True),
    _time("rate_limited_until", nullable=True),
    # as they were at `strikes_at`: they fade
    sa.Column("strikes", sa.Float, nullable=False, server_default=_ZERO),
    _time("strikes_at", nullable=True),
    _int4("tries", server_default=_ZERO),
    _time("next_try", nullable=True),
    _text("error", nullable=True),
    _time("error_at", nullable=True),
    _text("software", nullable=True),
)

# The last moves of each host from one state to another, for its operator.
host_move = sa.Table(
    "host_move",
    metadata,
    _int8("id", sa.Identity(), primary_key=True),
    _int4("host"),
    _time("at", server_default=_NOW),
    _text("before"),
    _text("after"),
    _text("why"),
    sa.Index("host_move_host_id_idx", "host", "id"),
)

# How far a list of hosts that grows at its end was taken over.
host_source = sa.Table(
    "host_source",
    metadata,
    _text("name", primary_key=True),
    _int8("position"),
)

# One row for each shard that applies events of the host: a stream resumes from the
# least of them, so no shard's unfinished work is skipped.
host_cursor = sa.Table(
    "host_cursor",
    metadata,
    _int4("host", primary_key=True, autoincrement=False),
    _int4("shard", primary_key=True, autoincrement=False, server_default=_ZERO),
    _int8("seq"),
    _time("updated_at", server_default=_NOW),
    postgresql_with={"fillfactor": 50},
)

repo = sa.Table(
    "repo",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _int4("host", nullable=True, index=True),
    _text("state", server_default=REPO_DESYNCHRONIZED),
    # head of what `record` holds; NULL until the first import
    _text("rev", nullable=True),
    _bytes("data", nullable=True),
    _bytes("commit", nullable=True),
    # what `record` holds of it: storage.selections; NULL is the whole repo
    _int4("selection", nullable=True),
    # newest rev any listRepos, #sync or commit told of
    _text("upstream_rev", nullable=True),
    # resync work: claimed by lease, retried with backoff
    _time("lease_until", nullable=True),
    _int4("tries", server_default=_ZERO),
    _time("next_try", server_default=_NOW),
    _text("error", nullable=True),
    _time("synchronized_at", nullable=True),
    # when the host last spoke for the account's status, and how often in a row it
    # said since that it does not know the repo
    _time("status_at", nullable=True, index=True),
    sa.Column("unknown", sa.SmallInteger, nullable=False, server_default=_ZERO),
    _one_of("state", REPO_STATES),
    sa.Index(
        "repo_work_idx",
        "next_try",
        postgresql_where=sa.text("state <> 'synchronized'"),
    ),
    sa.Index("repo_unknown_idx", "status_at", postgresql_where=sa.text("unknown > 0")),
    postgresql_with={"fillfactor": 70},
)

resync_buffer = sa.Table(
    "resync_buffer",
    metadata,
    _int8("id", sa.Identity(), primary_key=True),
    _int4("actor"),
    _int8("seq"),
    _bytes("event"),
    sa.Index("resync_buffer_actor_id_idx", "actor", "id"),
)

# A frame that made the worker fail again and again: bytes kept, cursor moved on.
quarantined_frame = sa.Table(
    "quarantined_frame",
    metadata,
    _int8("id", sa.Identity(), primary_key=True),
    _int4("host"),
    _int8("seq", nullable=True),
    _bytes("frame"),
    _text("error"),
    _time("at", server_default=_NOW),
)

drop_count = sa.Table(
    "drop_count",
    metadata,
    _text("reason", primary_key=True),
    # 0 = no host to name
    _int4("host", primary_key=True, autoincrement=False, server_default=_ZERO),
    _int8("n"),
    _time("last_at", server_default=_NOW),
)

# Counters measured again and again: events a second lately, and as it usually is.
gauge = sa.Table(
    "gauge",
    metadata,
    _text("name", primary_key=True),
    sa.Column("total", sa.Float, nullable=False),
    sa.Column("rate", sa.Float, nullable=False),
    sa.Column("usual", sa.Float, nullable=False),
    _time("at", server_default=_NOW),
    _time("since", server_default=_NOW),
)

# Who is at work: one row a process and a scheduled task, with its own figures.
pulse = sa.Table(
    "pulse",
    metadata,
    _text("name", primary_key=True),
    _time("at", server_default=_NOW),
    sa.Column("figures", pg.JSONB, nullable=False),
)

# records ---------------------------------------------------------------------

# value: storage.record_codec form of the exact DRISL bytes. CID = hash of the bytes.
record = sa.Table(
    "record",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _int4("collection", primary_key=True, autoincrement=False),
    _int8("rkey", primary_key=True, autoincrement=False),
    _bytes("value"),
    postgresql_partition_by="HASH (actor)",
)

# Ops of a verified tree that were not kept: without their CIDs the repo's root could
# not be rebuilt. path_digest = first 16 bytes of SHA-256(path), for the index only.
dropped_record = sa.Table(
    "dropped_record",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _bytes("path_digest", primary_key=True),
    _bytes("path"),
    _bytes("cid"),
    _text("reason"),
)

# Records that are kept and served as bytes but are not shown: they do not have the
# shape that their collection's rows need.
index_error = sa.Table(
    "index_error",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _int4("collection", primary_key=True, autoincrement=False),
    _int8("rkey", primary_key=True, autoincrement=False),
    _text("reason"),
)

dictionary = sa.Table(
    "dictionary",
    metadata,
    _int4("id", primary_key=True, autoincrement=False),
    _bytes("data"),
    _time("added_at", server_default=_NOW),
)

# edges -----------------------------------------------------------------------

# Column order is for alignment: 32 bytes without a hole. Partitions and their indexes
# are in storage.links. target_collection 0 and target_rkey 0: an account.
link = sa.Table(
    "link",
    metadata,
    _int8("rkey"),
    _int8("target_rkey"),
    _int4("actor"),
    _int4("target_actor"),
    _int4("target_collection"),
    _int4("path"),
    postgresql_partition_by="LIST (path)",
)

# collections -----------------------------------------------------------------

# sort_at = the earlier of created_at (the author's claim) and indexed_at.
post = sa.Table(
    "post",
    metadata,
    _int8("rkey"),
    _time("sort_at"),
    _time("created_at"),
    _time("indexed_at"),
    _int8("parent_rkey", nullable=True),
    _int8("root_rkey", nullable=True),
    _int4("actor"),
    _int4("parent_actor", nullable=True),
    _int4("root_actor", nullable=True),
    # bits of indexer.collections.post.Media
    sa.Column("media", sa.SmallInteger, nullable=False, server_default=_ZERO),
    sa.Column("langs", pg.ARRAY(sa.Text), nullable=True),
    sa.PrimaryKeyConstraint("actor", "rkey"),
    sa.Index("post_actor_sort_at_idx", "actor", "sort_at"),
    sa.Index("post_sort_at_idx", "sort_at"),
)

profile = sa.Table(
    "profile",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _text("display_name", nullable=True),
    _text("description", nullable=True),
    _bytes("avatar", nullable=True),
    _bytes("banner", nullable=True),
    _time("created_at", nullable=True),
    _time("indexed_at"),
)

feed_generator = sa.Table(
    "feed_generator",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _int8("rkey", primary_key=True, autoincrement=False),
    _text("service_did"),
    _text("display_name"),
    _text("description", nullable=True),
    _bytes("avatar", nullable=True),
    _time("created_at"),
    _time("indexed_at"),
)

list_ = sa.Table(
    "list",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _int8("rkey", primary_key=True, autoincrement=False),
    _text("purpose"),
    _text("name"),
    _text("description", nullable=True),
    _bytes("avatar", nullable=True),
    _time("created_at"),
    _time("indexed_at"),
)

list_item = sa.Table(
    "list_item",
    metadata,
    _int8("rkey"),
    _int8("list_rkey"),
    _int4("actor"),
    _int4("list_actor"),
    _int4("subject"),
    sa.PrimaryKeyConstraint("actor", "rkey"),
    sa.Index("list_item_list_idx", "list_actor", "list_rkey", "rkey"),
    sa.Index("list_item_subject_idx", "subject"),
)

starter_pack = sa.Table(
    "starter_pack",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _int8("rkey", primary_key=True, autoincrement=False),
    _text("name"),
    _text("description", nullable=True),
    _int4("list_actor", nullable=True),
    _int8("list_rkey", nullable=True),
    _time("created_at"),
    _time("indexed_at"),
)

labeler = sa.Table(
    "labeler",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _time("created_at"),
    _time("indexed_at"),
)

# labels ----------------------------------------------------------------------

# Newest label (by cts) of a source on a subject. collection 0, rkey 0: the account.
# cid is empty when the label holds for every version. raw: the label as signed.
label = sa.Table(
    "label",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _int4("collection", primary_key=True, autoincrement=False),
    _int8("rkey", primary_key=True, autoincrement=False),
    _int4("src", primary_key=True, autoincrement=False),
    _text("val", primary_key=True),
    _bytes("cid", primary_key=True),
    _flag("neg", server_default=sa.false()),
    _time("cts"),
    _time("exp", nullable=True),
    _bytes("raw"),
    sa.Index("label_src_cts_idx", "src", "cts"),
)

# counts ----------------------------------------------------------------------

# Counts of distinct records, kept by deltas in the transaction of the records. A row
# exists from the first edge on, whether or not its subject is known.
post_stats = sa.Table(
    "post_stats",
    metadata,
    _int8("rkey", primary_key=True, autoincrement=False),
    _int4("actor", primary_key=True, autoincrement=False),
    _int4("likes", server_default=_ZERO),
    _int4("reposts", server_default=_ZERO),
    _int4("replies", server_default=_ZERO),
    _int4("quotes", server_default=_ZERO),
    postgresql_with={"fillfactor": 80},
)

# Likes of anything that is not a post: feed generators, labelers, lists.
subject_stats = sa.Table(
    "subject_stats",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _int4("collection", primary_key=True, autoincrement=False),
    _int8("rkey", primary_key=True, autoincrement=False),
    _int4("likes", server_default=_ZERO),
    postgresql_with={"fillfactor": 80},
)

actor_stats = sa.Table(
    "actor_stats",
    metadata,
    _int4("actor", primary_key=True, autoincrement=False),
    _int4("followers", server_default=_ZERO),
    _int4("follows", server_default=_ZERO),
    _int4("posts", server_default=_ZERO),
    _int4("lists", server_default=_ZERO),
    _int4("feed_generators", server_default=_ZERO),
    _int4("starter_packs", server_default=_ZERO),
    postgresql_with={"fillfactor": 80},
)

# identity --------------------------------------------------------------------

# document NULL: the resolution failed, `error` says how (negative cache).
identity = sa.Table(
    "identity",
    metadata,
    _text("did", primary_key=True),
    sa.Column("document", pg.JSONB, nullable=True),
    _text("error", nullable=True),
    _time("fetched_at", server_default=_NOW, index=True),
)

handle_cache = sa.Table(
    "handle_cache",
    metadata,
    _text("handle", primary_key=True),
    _text("did", nullable=True),
    _text("error", nullable=True),
    _time("checked_at", server_default=_NOW),
    # the domain could not be asked, so many times since then
    _int4("failures", server_default=_ZERO),
    _time("failing_since", nullable=True),
    sa.Index("handle_cache_checked_at_idx", "checked_at"),
)

# What the audit found of repos drawn at random, the newest of them; verdicts are in
# storage.audit_samples.
audit_sample = sa.Table(
    "audit_sample",
    metadata,
    _int8("id", sa.Identity(), primary_key=True),
    _int4("actor"),
    _text("verdict"),
    _text("detail", nullable=True),
    _time("at", server_default=_NOW),
)

# The mirror of a PLC directory. did = the 15 bytes that the text of a did:plc spells,
# log = storage.plc_codec form of its whole proven log.
plc_log = sa.Table(
    "plc_log",
    metadata,
    _bytes("did", primary_key=True),
    _bytes("log"),
    postgresql_with={"fillfactor": 90},
)

# DIDs of which a directory published something that does not follow from what is
# proven; `plc_log` stays as it was. Their whole log is asked for, with backoff.
plc_doubt = sa.Table(
    "plc_doubt",
    metadata,
    _bytes("did", primary_key=True),
    _text("reason"),
    _time("since", server_default=_NOW),
    _int4("tries", server_default=_ZERO),
    _time("next_try", server_default=_NOW, index=True),
)

# How far the export of a directory was read. caught_up_at: when a look that found
# nothing more was begun.
plc_feed = sa.Table(
    "plc_feed",
    metadata,
    _text("directory", primary_key=True),
    # the number of the last operation read, or, of a directory without numbers, its
    # time in Unix milliseconds
    _int8("seq", nullable=True),
    _int8("time_ms", nullable=True),
    _int8("operations", server_default=_ZERO),
    _time("caught_up_at", nullable=True),
    _text("error", nullable=True),
    _time("error_at", nullable=True),
)

# PDSes that proven operations name; `id` is the cursor of who looks for new hosts.
plc_host = sa.Table(
    "plc_host",
    metadata,
    _int8("id", sa.Identity(), primary_key=True),
    _text("url", unique=True),
    _time("first_seen", server_default=_NOW),
)

# Service tokens already seen. digest = SHA-256 of issuer and jti.
jti = sa.Table(
    "jti",
    metadata,
    _bytes("digest", primary_key=True),
    _time("expires_at", index=True),
)

# work ------------------------------------------------------------------------

search_outbox = sa.Table(
    "search_outbox",
    metadata,
    _int8("id", sa.Identity(), primary_key=True),
    _int8("rkey"),
    _int4("actor"),
    _int4("collection"),
    # put | delete: a hint. The drain reads the current row and decides.
    _text("op", server_default="put"),
)

job = sa.Table(
    "job",
    metadata,
    _int8("id", sa.Identity(), primary_key=True),
    _text("kind"),
    _text("key"),
    sa.Column("payload", pg.JSONB, nullable=False, server_default=sa.text("'{}'")),
    _time("not_before", server_default=_NOW),
    _time("lease_until", nullable=True),
    _int4("tries", server_default=_ZERO),
    _text("error", nullable=True),
    sa.UniqueConstraint("kind", "key"),
    sa.Index("job_kind_not_before_idx", "kind", "not_before"),
)

lease = sa.Table(
    "lease",
    metadata,
    _text("name", primary_key=True),
    _text("holder"),
    _time("until"),
)

# streams out -----------------------------------------------------------------

# Frames sent on, many to a row. last_seq, time_us: NULL until they have numbers; the
# number of the last event and the time of the first. frames: storage.event_log.
event_block = sa.Table(
    "event_block",
    metadata,
    _int8("id", sa.Identity(), primary_key=True),
    _int8("last_seq", nullable=True, unique=True),
    _int8("time_us", nullable=True, unique=True),
    _int4("count"),
    _int4("size"),
    _bytes("frames"),
    sa.Index(
        "event_block_unnumbered_idx",
        "id",
        postgresql_where=sa.text("last_seq IS NULL"),
    ),
)

# One row: the last number and time that were given.
event_counter = sa.Table(
    "event_counter",
    metadata,
    _flag("single", primary_key=True, server_default=sa.true()),
    _int8("last_seq"),
    _int8("last_time_us"),
    sa.CheckConstraint("single", name="single"),
)

# scope -----------------------------------------------------------------------

# One row: what is to be indexed. settings: the configuration it was taken from.
scope = sa.Table(
    "scope",
    metadata,
    _flag("single", primary_key=True, server_default=sa.true()),
    _text("kind"),
    sa.Column("seeds", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("collections", pg.ARRAY(sa.Text), nullable=False),
    _int8("generation"),
    _text("settings", nullable=True),
    _time("changed_at"),
    # what is to be kept of each repo, and the last actor whose repo was held against
    # it; NULL: everything, and all of them
    _int4("selection", nullable=True),
    _int4("compared", nullable=True),
    sa.CheckConstraint("single", name="single"),
)

# Sets of collections (NSIDs, sorted): what repos are kept of.
selection = sa.Table(
    "selection",
    metadata,
    _int4("id", sa.Identity(), primary_key=True),
    sa.Column("collections", pg.ARRAY(sa.Text), nullable=False, unique=True),
)

# Its accounts, where it is not the whole network.
scope_account = sa.Table(
    "scope_account",
    metadata,
    _int8("id", sa.Identity(), primary_key=True),
    _text("did", unique=True),
    # when an account that has no repo here is to be looked up
    _time("next_try", server_default=_NOW, index=True),
)
