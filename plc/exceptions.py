"""Operations of the public directory's early days that would be refused today.

The directory accepted some thousand operations before its rules were strict. A CID
fixes every byte, so a list of them cannot be stretched to other operations; the file
says where its CIDs come from. Of nearly all the CID is also the hash of the DID that
the operation makes. More can be added, one a line; those of operations with unknown
fields stay refused, since nobody could tell what they mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from protocol.data.cid import cid_from_text

EXCEPTIONS_PATH: Final = Path(__file__).with_name("exceptions.txt")


def load_exceptions(path: Path = EXCEPTIONS_PATH) -> frozenset[str]:
    """The CIDs of a file: one a line, `#` begins a comment. Raises InvalidEncodingError
    for a line that is no CID."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    cids = frozenset(line for line in lines if line)
    for cid in cids:
        cid_from_text(cid)
    return cids
