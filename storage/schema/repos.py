"""Repos, their buffers, and drops."""

from __future__ import annotations

import sqlalchemy as sa

from storage.schema.columns import (
    NOW,
    ZERO,
    flag,
    int4,
    int8,
    octets,
    one_of,
    table,
    text,
    time,
)
from storage.states import REPO_DESYNCHRONIZED, REPO_STATES

repo = table(
    "repo",
    int4("actor", primary_key=True, autoincrement=False),
    int4("host", nullable=True, index=True),
    text("state", server_default=REPO_DESYNCHRONIZED),
    # head of what `record` holds; NULL until the first import
    text("rev", nullable=True),
    octets("data", nullable=True),
    octets("commit", nullable=True),
    # what `record` holds of it: storage.repos.selections; NULL is the whole repo
    int4("selection", nullable=True),
    # newest rev announced by a listRepos, #sync or commit
    text("upstream_rev", nullable=True),
    # resync work: claimed by lease, retried with backoff
    time("lease_until", nullable=True),
    int4("tries", server_default=ZERO),
    time("next_try", server_default=NOW),
    text("error", nullable=True),
    time("synchronized_at", nullable=True),
    # true unless the upstream status of the account is active
    flag("hidden", server_default=sa.false()),
    # when the host last reported the account's status, and how often in a row it
    # did not know the repo since
    time("status_at", nullable=True, index=True),
    # when document and handle were last due for a refresh
    time("identity_at", server_default=NOW, index=True),
    sa.Column("unknown", sa.SmallInteger, nullable=False, server_default=ZERO),
    one_of("state", REPO_STATES),
    sa.Index(
        "repo_work_idx", "next_try", postgresql_where=sa.text("state <> 'synchronized'")
    ),
    sa.Index(
        "repo_waiting_idx", "host", postgresql_where=sa.text("state <> 'synchronized'")
    ),
    sa.Index("repo_hidden_idx", "host", postgresql_where=sa.text("hidden")),
    sa.Index("repo_unknown_idx", "status_at", postgresql_where=sa.text("unknown > 0")),
    postgresql_with={"fillfactor": 70},
)

resync_buffer = table(
    "resync_buffer",
    int8("id", sa.Identity(), primary_key=True),
    int4("actor"),
    int8("seq"),
    octets("event"),
    sa.Index("resync_buffer_actor_id_idx", "actor", "id"),
)

# Frames that repeatedly failed to apply: kept with their bytes, the cursor moved on.
quarantined_frame = table(
    "quarantined_frame",
    int8("id", sa.Identity(), primary_key=True),
    int4("host"),
    int8("seq", nullable=True),
    octets("frame"),
    text("error"),
    time("at", server_default=NOW),
)

drop_count = table(
    "drop_count",
    text("reason", primary_key=True),
    # 0 = no host
    int4("host", primary_key=True, autoincrement=False, server_default=ZERO),
    int8("n"),
    time("last_at", server_default=NOW),
)
