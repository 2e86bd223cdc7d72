"""Tables of private state. `metadata` is what its migrations must equal."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()

# The numbers of accounts are those of one index, which may be made anew: DIDs stay.
mute = sa.Table(
    "mute",
    metadata,
    sa.Column("viewer", sa.Text(collation="C"), nullable=False),
    sa.Column("subject", sa.Text(collation="C"), nullable=False),
    sa.Column("only_reposts", sa.Boolean, nullable=False),
    sa.Column("only_quotes", sa.Boolean, nullable=False),
    sa.Column(
        "muted_at",
        sa.DateTime(timezone=True),
        nullable=False,
        server_default=sa.text("now()"),
    ),
    sa.PrimaryKeyConstraint("viewer", "subject", name="mute_pkey"),
    sa.Index("mute_viewer_time_idx", "viewer", "muted_at", "subject"),
)
