"""Tables of one Personal Data Server; its migrations must equal `metadata`.

Text that is compared or ranged over bytewise has the "C" collation. CIDs are their 36
raw bytes. Every secret column holds a hash or an encrypted value.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    text,
)

metadata = MetaData()


def _bytewise() -> Text:
    return Text(collation="C")


account = Table(
    "account",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("did", _bytewise(), nullable=False, unique=True),
    # NULL for a deleted account, which frees the handle.
    Column("handle", _bytewise(), unique=True),
    Column("email", _bytewise(), unique=True),
    Column("password", Text, nullable=False),
    Column("signing_key", LargeBinary, nullable=False),
    Column("rotation_key", LargeBinary, nullable=False),
    Column("signing_did_key", Text, nullable=False),
    # A did:key that its owner holds, named at the creation here.
    Column("recovery_key", Text),
    Column("email_confirmed_at", DateTime(timezone=True)),
    # Outlasts a takedown, after which the account is deactivated again.
    Column("deactivated_at", DateTime(timezone=True)),
    Column("invites_disabled", Boolean, nullable=False, server_default=text("false")),
    Column("status", Text, nullable=False, server_default="active"),
    Column(
        "created_at", DateTime(timezone=True), nullable=False, server_default=func.now()
    ),
    CheckConstraint(
        "status IN ('active', 'deactivated', 'takendown', 'suspended', 'deleted')",
        name="account_status",
    ),
)

# The head of each repo. Its row lock keeps the history of a repo linear.
repo = Table(
    "repo",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("rev", _bytewise(), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("commit", LargeBinary, nullable=False),
)

# Tree nodes, records and the current commit; only blocks that the head reaches. These
# rows, records and events have no foreign key to `account`: they are written in bulk,
# under the lock of a `repo` row that has one.
block = Table(
    "block",
    metadata,
    Column("account", Integer, primary_key=True),
    Column("cid", LargeBinary, primary_key=True),
    Column("rev", _bytewise(), nullable=False),
    Column("value", LargeBinary, nullable=False),
    Index("block_rev", "account", "rev"),
)

# `path` is `collection/rkey`, so that its order is the order of the tree's keys.
record = Table(
    "record",
    metadata,
    Column("account", Integer, primary_key=True),
    Column("path", _bytewise(), primary_key=True),
    Column("cid", LargeBinary, nullable=False),
    Index("record_cid", "account", "cid"),
)

blob = Table(
    "blob",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("cid", LargeBinary, primary_key=True),
    Column("mime_type", Text, nullable=False),
    Column("size", Integer, nullable=False),
    # Last upload, reference or release; unreferenced blobs are deleted later.
    Column("touched_at", DateTime(timezone=True), nullable=False),
    Column("value", LargeBinary, nullable=False),
)

# The blobs of each record. A blob without a row here is temporary and hidden. A row
# without a blob is of an imported record: the blob is still missing.
blob_use = Table(
    "blob_use",
    metadata,
    Column("account", Integer, primary_key=True),
    Column("cid", LargeBinary, primary_key=True),
    Column("path", _bytewise(), primary_key=True),
    Column("rev", _bytewise(), nullable=False),
    Index("blob_use_path", "account", "path"),
)

# The exact frames of the stream.
event = Table(
    "event",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("account", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("frame", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("event_created_at", "created_at"),
)

# One row. Its lock is taken last in a write and held until commit, so sequence numbers
# become visible in their own order.
sequencer = Table(
    "sequencer",
    metadata,
    Column("id", Boolean, primary_key=True, server_default=text("true")),
    Column("last_seq", BigInteger, nullable=False),
    CheckConstraint("id", name="sequencer_one_row"),
)

# One row is one login with all its refresh tokens.
session = Table(
    "session",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account", Integer, ForeignKey("account.id"), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    Column("scope", Text, nullable=False, server_default="com.atproto.access"),
    # The name of the app password that opened it.
    Column("app_password", Text),
    Index("session_account", "account"),
)

# A used token names its successor and stays for a grace time. A valid token without a
# row was used before that.
refresh_token = Table(
    "refresh_token",
    metadata,
    Column("id", Text, primary_key=True),
    Column(
        "session", Text, ForeignKey("session.id", ondelete="CASCADE"), nullable=False
    ),
    Column("next_id", Text),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index("refresh_token_session", "session"),
)

preference = Table(
    "preference",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("value", Text, nullable=False),
)

# `for_account` is a DID, or "admin" for codes of the operator.
invite_code = Table(
    "invite_code",
    metadata,
    Column("code", _bytewise(), primary_key=True),
    Column("for_account", _bytewise(), nullable=False),
    Column("available", Integer, nullable=False),
    Column("uses", Integer, nullable=False, server_default=text("0")),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("invite_code_for_account", "for_account"),
    Index("invite_code_created_at", "created_at", "code"),
    Index("invite_code_uses", "uses", "code"),
)

# Names a DID, since a deleted account has still used its code.
invite_use = Table(
    "invite_use",
    metadata,
    Column("code", _bytewise(), ForeignKey("invite_code.code"), primary_key=True),
    Column("used_by", _bytewise(), primary_key=True),
    Column("used_at", DateTime(timezone=True), nullable=False),
    Index("invite_use_used_by", "used_by"),
)

# One mailed token of each purpose, as a keyed hash.
email_token = Table(
    "email_token",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Index("email_token_digest", "digest"),
)

app_password = Table(
    "app_password",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("privileged", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# What the operator hides: the account (""), a record (its path) or a blob (its CID).
takedown = Table(
    "takedown",
    metadata,
    Column("account", Integer, ForeignKey("account.id"), primary_key=True),
    Column("subject", _bytewise(), primary_key=True),
    Column("ref", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
