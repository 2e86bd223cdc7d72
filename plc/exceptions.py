"""Operations of the public directory's early days that would be refused today.

The directory accepted some thousand operations before its rules were strict. A CID
fixes every byte, so a list of them cannot be stretched to other operations. The list
that ships is empty: none of these CIDs could be checked where it was made. Add them
to the file, one a line; until then such DIDs stay at what can be proven of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from protocol.cid import cid_from_text

EXCEPTIONS_PATH: Final = Path(__file__).with_name("exceptions.txt")


def load_exceptions(path: Path = EXCEPTIONS_PATH) -> frozenset[str]:
    """The CIDs of a file: one a line, `#` begins a comment. Raises InvalidEncodingError
    for a line that is no CID."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    cids = frozenset(line for line in lines if line)
    for cid in cids:
        cid_from_text(cid)
    return cids
