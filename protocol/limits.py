"""Bounds of the protocol, each with the specification page that it comes from.

Sizes are bytes unless the name says otherwise.
"""

from __future__ import annotations

from typing import Final

# --- Event streams (specs/event-stream, specs/sync) ---
# specs/event-stream sets no bound; specs/sync sets a hard one, header included.
MAX_FRAME_BYTES: Final = 5_000_000
MAX_FRAME_DEPTH: Final = 64
# Items in all containers of a frame. A usual commit has about twenty, plus six for
# each of its operations.
MAX_FRAME_ITEMS: Final = 262_144
MAX_SEQ: Final = 2**53 - 1

# --- Commits (specs/sync) ---
MAX_COMMIT_OPS: Final = 200
MAX_COMMIT_BLOCKS_BYTES: Final = 2_000_000
# Our bound: keys and values in all records of a commit after their first 32 KiB.
MAX_COMMIT_ITEMS: Final = 131_072
UNCOUNTED_RECORD_BYTES: Final = 32_768
# The lexicon's bound: a #sync message carries only the commit block.
MAX_SYNC_BLOCKS_BYTES: Final = 10_000
MAX_REV_AHEAD_US: Final = 300_000_000

# --- Records (specs/sync, guides/data-validation) ---
# Whole repos may hold records of up to one mebibyte from older software; leaving them
# out would break the tree.
MAX_RECORD_BYTES: Final = 1_000_000
MAX_RECORD_BYTES_BACKFILL: Final = 1_048_576
MAX_JSON_BYTES: Final = 2_097_152
# Our bound: values in one JSON text. 1,000 PLC operations have 40,000.
MAX_JSON_ITEMS: Final = 131_072
MAX_RECORD_DEPTH: Final = 32
MAX_CONTAINER_ITEMS: Final = 131_072
# Our bound: keys and values in all containers of a record.
MAX_RECORD_ITEMS: Final = 262_144
MAX_MAP_KEY_BYTES: Final = 8_192
MAX_CID_BYTES: Final = 100
MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1

# --- CAR files (specs/repository) ---
MAX_CAR_HEADER_BYTES: Final = 65_536
# A node of 256 entries with the longest keys has 300 kB, the largest record 1 MiB.
MAX_BLOCK_BYTES: Final = 2_097_152
MAX_CAR_ROOTS: Final = 64

# --- Whole repos (specs/repository: "single-digit millions of records") ---
MAX_REPO_BYTES: Final = 4 * 1024**3
MAX_REPO_RECORDS: Final = 10_000_000

# --- Merkle search tree ---
# Ten million random keys exceed 129 entries in a node or a height of 27 once in a
# billion trees; more means that keys were mined.
MAX_NODE_ENTRIES: Final = 256
MAX_TREE_HEIGHT: Final = 40
# An NSID, a slash and a record key at their longest.
MAX_PATH_BYTES: Final = 830
MAX_TREE_KEY_BYTES: Final = 1_024

# --- Identifiers (specs/did, handle, nsid, record-key, at-uri-scheme, lexicon) ---
MAX_DID_CHARS: Final = 2_048
MAX_HANDLE_CHARS: Final = 253
MAX_NSID_CHARS: Final = 317
MAX_RECORD_KEY_CHARS: Final = 512
MAX_AT_URI_CHARS: Final = 8_192
MAX_URI_CHARS: Final = 8_192
MAX_DATETIME_CHARS: Final = 64
MAX_LANGUAGE_CHARS: Final = 128
MAX_CID_TEXT_CHARS: Final = 256

# --- XRPC (specs/xrpc sets no bound) ---
# Longer than any identifier, search or cursor.
MAX_PARAMETER_CHARS: Final = 10_000

# --- Lexicons (our bounds; specs/lexicon sets none) ---
MAX_LEXICON_BYTES: Final = 262_144
MAX_LEXICON_DEPTH: Final = 32
MAX_UNION_WIDTH: Final = 1_024

# --- PLC (the specification allows 7,500; the reference server takes 4,000) ---
MAX_PLC_OPERATION_BYTES: Final = 7_500
MAX_PLC_OPERATION_BYTES_SENT: Final = 4_000

# --- Service tokens (specs/xrpc: about sixty seconds) ---
# getServiceAuth gives clients an hour, with `lxm`.
MAX_SERVICE_JWT_LIFETIME_S: Final = 3_600
MAX_CLOCK_SKEW_S: Final = 300
