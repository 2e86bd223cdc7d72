"""All mutants: small bugs, easy to make."""

from __future__ import annotations

from mutants_of_accounts import ACCOUNT, HOST
from mutants_of_bytes import ENCODING, HASH, SIGNATURE
from mutants_of_commits import OPERATIONS, SIZE
from mutants_of_parts import GROUP, PART, ROW, SHARD
from mutants_of_state import CHAIN, CURSOR, VANISHED
from mutants_of_the_guard import ADDRESS, REPLAY
from mutants_of_turns import TURN
from mutants_of_views import LABEL, NOTICE, PRIVATE, TAKEDOWN, WRITE

MUTANTS = (
    *CURSOR,
    *ENCODING,
    *HASH,
    *SIGNATURE,
    *OPERATIONS,
    *SIZE,
    *CHAIN,
    *VANISHED,
    *HOST,
    *ACCOUNT,
    *ADDRESS,
    *REPLAY,
    *GROUP,
    *SHARD,
    *PART,
    *ROW,
    *TURN,
    *LABEL,
    *TAKEDOWN,
    *PRIVATE,
    *NOTICE,
    *WRITE,
)
