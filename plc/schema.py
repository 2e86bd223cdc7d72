"""Tables of the PLC directory, which its migrations must match."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

metadata = MetaData()

# `value` holds the exact DRISL bytes of the signed operation; its CID is their hash. A
# JSON column would refuse U+0000, which a name may hold.
operation = Table(
    "operation",
    metadata,
    # The export's sequence number; rises in the order of commits, see plc.ledger.
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("did", Text(collation="C"), nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("nullified", Boolean, nullable=False, server_default=text("false")),
    # Unix milliseconds; rises within a DID.
    Column("created_ms", BigInteger, nullable=False),
    Index("operation_did_idx", "did", "seq", unique=True),
    Index("operation_created_idx", "created_ms", "seq"),
)
