"""Alembic: one folder of versions for each database. Run by storage.migrate."""
