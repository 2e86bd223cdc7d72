"""Counts of rows derived from records."""

from __future__ import annotations

from storage.schema.columns import ZERO, int4, int8, table

# Counts of edges, one an account for likes, reposts and follows; kept by deltas in the
# transaction of the records. A row exists from the first edge on, whether or not its
# subject is known. `deletions`: how often a post with this key was deleted.
post_stats = table(
    "post_stats",
    int8("rkey", primary_key=True, autoincrement=False),
    int4("actor", primary_key=True, autoincrement=False),
    int4("likes", server_default=ZERO),
    int4("reposts", server_default=ZERO),
    int4("replies", server_default=ZERO),
    int4("quotes", server_default=ZERO),
    int4("deletions", server_default=ZERO),
    postgresql_with={"fillfactor": 80},
)

# Likes of anything that is not a post: feed generators, labelers, lists. `items`:
# members of a list.
subject_stats = table(
    "subject_stats",
    int4("actor", primary_key=True, autoincrement=False),
    int4("collection", primary_key=True, autoincrement=False),
    int8("rkey", primary_key=True, autoincrement=False),
    int4("likes", server_default=ZERO),
    int4("items", server_default=ZERO),
    postgresql_with={"fillfactor": 80},
)

actor_stats = table(
    "actor_stats",
    int4("actor", primary_key=True, autoincrement=False),
    int4("followers", server_default=ZERO),
    int4("follows", server_default=ZERO),
    int4("posts", server_default=ZERO),
    int4("lists", server_default=ZERO),
    int4("feed_generators", server_default=ZERO),
    int4("starter_packs", server_default=ZERO),
    postgresql_with={"fillfactor": 80},
)

# The most popular accounts (collection 0), feed generators and starter packs, in order.
# generation: Unix time of the refresh; older ones serve the cursors that began there.
popular = table(
    "popular",
    int8("generation", primary_key=True, autoincrement=False),
    int4("collection", primary_key=True, autoincrement=False),
    int4("place", primary_key=True, autoincrement=False),
    int4("actor"),
    int8("rkey"),
)
