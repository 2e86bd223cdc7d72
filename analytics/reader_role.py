"""The role that may read the views and nothing else."""

from __future__ import annotations

from typing import Final

from storage.postgres.pool import Conn

READER: Final = "bigworld_reader"


def make_reader(conn: Conn) -> None:
    """Make the role with its limits and rights, where the server allows it.

    Does not commit. Roles belong to the whole server: another database may have it.
    """
    conn.execute(_ROLE)


# As in migration 0030.
_ROLE: Final = """
DO $$ BEGIN
    CREATE ROLE bigworld_reader LOGIN;
    ALTER ROLE bigworld_reader SET statement_timeout = '60s';
    ALTER ROLE bigworld_reader SET default_transaction_read_only = on;
    ALTER ROLE bigworld_reader SET work_mem = '64MB';
    ALTER ROLE bigworld_reader SET hash_mem_multiplier = 1;
    ALTER ROLE bigworld_reader SET max_parallel_workers_per_gather = 0;
    ALTER ROLE bigworld_reader SET search_path = analytics;
EXCEPTION WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END $$;
DO $$ BEGIN
    ALTER ROLE bigworld_reader SET temp_file_limit = '2GB';
EXCEPTION WHEN undefined_object OR insufficient_privilege OR internal_error THEN NULL;
END $$;
DO $$ BEGIN
    GRANT USAGE ON SCHEMA analytics TO bigworld_reader;
    GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO bigworld_reader;
    GRANT bigworld_reader TO current_user;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN NULL;
END $$;
"""
