"""Errors of bytes and values from outside: ProtocolError, and DesynchronizedError."""

from __future__ import annotations


class ProtocolError(Exception):
    """Input that breaks a rule of the protocol."""


class InvalidSyntaxError(ProtocolError):
    """A string that is not the identifier or format that it should be."""


class InvalidEncodingError(ProtocolError):
    """Bytes or JSON that do not decode, or are not in canonical form."""


class TruncatedError(InvalidEncodingError):
    """A file or stream that ends early; another try may help."""


class InvalidSignatureError(ProtocolError):
    """A signature that does not verify, or an invalid key."""


class InvalidTreeError(ProtocolError):
    """A malformed Merkle search tree, or one that does not prove a claim."""


class MissingBlockError(ProtocolError):
    """A block that is linked to but was not delivered."""


class LimitExceededError(ProtocolError):
    """Well-formed input that is larger, deeper or wider than allowed."""


class InvalidRecordError(ProtocolError):
    """A value that does not fit its lexicon.

    `path` locates the fault, as in "embed.images[2].alt"; it is empty for the value
    itself.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason

    def inside(self, step: str) -> InvalidRecordError:
        """Return the fault as seen from the container of the value at `step`."""
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
    """A message that does not follow the state we hold; the repo needs a resync."""
