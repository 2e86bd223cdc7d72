"""The life of an account: invites, app passwords, mailed tokens, missing blobs."""

from __future__ import annotations

from alembic import op

revision = "20261201_account_life"
down_revision = "20261130_refresh_tokens"

_STATEMENTS = (
    "ALTER TABLE account ADD COLUMN recovery_key text",
    "ALTER TABLE account ADD COLUMN email_confirmed_at timestamptz",
    "ALTER TABLE account ADD COLUMN deactivated_at timestamptz",
    "UPDATE account SET deactivated_at = now() WHERE status = 'deactivated'",
    "ALTER TABLE account ADD COLUMN invites_disabled boolean NOT NULL DEFAULT false",
    """
    CREATE TABLE takedown (
        account integer NOT NULL REFERENCES account (id),
        subject text COLLATE "C" NOT NULL,
        ref text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (account, subject)
    )
    """,
    """
    ALTER TABLE session
        ADD COLUMN scope text NOT NULL DEFAULT 'com.atproto.access',
        ADD COLUMN app_password text
    """,
    """
    CREATE TABLE app_password (
        account integer NOT NULL REFERENCES account (id),
        name text NOT NULL,
        digest bytea NOT NULL,
        privileged boolean NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (account, name)
    )
    """,
    # An imported record names blobs that are uploaded after it.
    "ALTER TABLE blob_use DROP CONSTRAINT blob_use_account_cid_fkey",
    """
    CREATE TABLE invite_code (
        code text COLLATE "C" PRIMARY KEY,
        for_account text COLLATE "C" NOT NULL,
        available integer NOT NULL,
        uses integer NOT NULL DEFAULT 0,
        disabled boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX invite_code_for_account ON invite_code (for_account)",
    "CREATE INDEX invite_code_created_at ON invite_code (created_at, code)",
    "CREATE INDEX invite_code_uses ON invite_code (uses, code)",
    """
    CREATE TABLE invite_use (
        code text COLLATE "C" NOT NULL REFERENCES invite_code (code),
        used_by text COLLATE "C" NOT NULL,
        used_at timestamptz NOT NULL,
        PRIMARY KEY (code, used_by)
    )
    """,
    "CREATE INDEX invite_use_used_by ON invite_use (used_by)",
    """
    CREATE TABLE email_token (
        account integer NOT NULL REFERENCES account (id),
        purpose text NOT NULL,
        digest bytea NOT NULL,
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (account, purpose)
    )
    """,
    "CREATE INDEX email_token_digest ON email_token (digest)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
