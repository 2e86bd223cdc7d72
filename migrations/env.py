"""Alembic's entry point: runs the versions of one target on a given connection.

Every version is one transaction, so a killed migration leaves nothing behind.
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
