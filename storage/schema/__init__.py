"""Tables of the index database, described by SQLAlchemy for migrations only.

Rows are read and written through psycopg.

- names: actor, collection, rkey, path
- hosts: host, host_move, host_source, host_cursor
- repos: repo, resync_buffer, quarantined_frame, drop_count
- scope: scope, selection, scope_account, scope_departure
- record_bytes: record (8 partitions by actor), listed_record, collection_repo,
  dropped_record, index_error, dictionary
- rows: link (partitions by path, see storage.collections.LINK_PARTITIONS),
  uncounted_link, post, profile, feed_generator, list, list_item,
  starter_pack, labeler, label, label_stream, label_drop, distant_reply,
  removed_verification
- counts: post_stats, subject_stats, actor_stats, popular
- identity: identity, handle_cache, jti, plc_log, plc_doubt, plc_feed, plc_host
- work: search_outbox, job, lexicon, lease, event_block, event_counter
- watching: gauge, pulse, audit_sample
- exports: export, export_account, change_block, change_counter
- activity: activity, activity_change, record_json

A record's address is (actor, collection, rkey): int4, int4, int8. A TID record key is
its own 63-bit number; any other key is a negative id of `rkey`.
"""

from storage.schema import (
    activity,
    counts,
    exports,
    hosts,
    identity,
    names,
    record_bytes,
    repos,
    rows,
    scope,
    watching,
    work,
)
from storage.schema.columns import metadata
from storage.schema.record_bytes import RECORD_PARTITIONS

__all__ = [
    "RECORD_PARTITIONS",
    "activity",
    "counts",
    "exports",
    "hosts",
    "identity",
    "metadata",
    "names",
    "record_bytes",
    "repos",
    "rows",
    "scope",
    "watching",
    "work",
]
