"""The `postgres` engine: tsvector and GIN in the index database itself."""

from __future__ import annotations

from search.engines.postgres.engine import PostgresEngine

__all__ = ["PostgresEngine"]
