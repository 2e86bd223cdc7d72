"""What can be wrong with bytes and values that came from outside.

ProtocolError
├── InvalidSyntaxError       an identifier or a string format
├── InvalidEncodingError     CBOR, CAR, JSON, a frame, a varint, a CID
│   └── TruncatedError       it was fine as far as it went
├── InvalidSignatureError    a signature or a key
├── InvalidTreeError         a Merkle search tree or a claim about it
├── MissingBlockError        a block that had to be there
├── LimitExceededError       well formed, but beyond a bound
├── InvalidRecordError       a record (or value) against its lexicon
└── InvalidLexiconError      a lexicon document itself
DesynchronizedError          the input is fine, it is we who are behind
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Bytes or values that break a rule of the protocol."""


class InvalidSyntaxError(ProtocolError):
    """A string that is not the identifier or format it should be."""


class InvalidEncodingError(ProtocolError):
    """Bytes or JSON that do not decode, or not in the one canonical form."""


class TruncatedError(InvalidEncodingError):
    """A file or stream that stops in the middle: asking again may help."""


class InvalidSignatureError(ProtocolError):
    """A signature that does not verify, or a key that cannot be one."""


class InvalidTreeError(ProtocolError):
    """A Merkle search tree that breaks its shape, or does not prove a claim."""


class MissingBlockError(ProtocolError):
    """A block that is linked to but was not delivered."""


class LimitExceededError(ProtocolError):
    """Input that is well formed but larger, deeper or wider than allowed."""


class InvalidRecordError(ProtocolError):
    """A value that does not fit its lexicon.

    `path` points at the fault from the outermost value, as in
    "embed.images[2].alt" ("" is the value itself); `reason` is a short phrase.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason

    def inside(self, step: str) -> InvalidRecordError:
        """The same fault, seen from a container that holds the value at `step`."""
        if not self.path:
            path = step
        elif self.path.startswith("["):
            path = step + self.path
        else:
            path = f"{step}.{self.path}"
        return InvalidRecordError(path, self.reason)


class InvalidLexiconError(ProtocolError):
    """A lexicon document that cannot be compiled."""


class DesynchronizedError(Exception):
    """The message does not follow on from the state we hold: a resync is due."""
