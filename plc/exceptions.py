"""Early operations of the public directory that today's rules refuse.

The directory accepted some thousand operations before its rules were strict. A CID
fixes every byte, so the list covers no other operations; the file names its sources.
Operations with unknown fields cannot be added, since their meaning is unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from protocol.data.cid import cid_from_text

EXCEPTIONS_PATH: Final = Path(__file__).with_name("exceptions.txt")


def load_exceptions(path: Path = EXCEPTIONS_PATH) -> frozenset[str]:
    """Return the CIDs of a file with one a line and `#` comments.

    Raises InvalidEncodingError for a line that is not a CID.
    """
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    cids = frozenset(line for line in lines if line)
    for cid in cids:
        cid_from_text(cid)
    return cids
