"""Alembic migrations, run by storage.migrate: one folder for each database."""
