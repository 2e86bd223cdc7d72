"""Alembic's entry: runs the versions of one target on the connection it was given.

Every version is one transaction: a migration that is killed leaves nothing behind.
"""

from __future__ import annotations

from alembic import context

from storage.migrate import merged_metadata, version_table

_config = context.config
_target = _config.attributes["target"]

context.configure(
    connection=_config.attributes["connection"],
    target_metadata=merged_metadata(_target),
    version_table=version_table(_target),
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
