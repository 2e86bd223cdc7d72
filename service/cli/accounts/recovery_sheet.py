"""Recovery keys on paper: eighteen words that can be read aloud, and their sheet.

A word is sixteen bits as consonant, vowel, consonant, vowel, consonant ("proquints").
The words hold the curve, the secret and a checksum of 24 bits, which finds mistakes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from protocol.identity.keys import SECRET_BYTES, Curve, PrivateKey
from service.operator_errors import ServiceError

WORDS: Final = 18
_PER_LINE: Final = 6

_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"
_WORD: Final = re.compile(
    f"[{_CONSONANTS}][{_VOWELS}][{_CONSONANTS}][{_VOWELS}][{_CONSONANTS}]"
)
# The alphabet and the bits of each letter.
_LETTERS: Final = (
    (_CONSONANTS, 4),
    (_VOWELS, 2),
    (_CONSONANTS, 4),
    (_VOWELS, 2),
    (_CONSONANTS, 4),
)
_MARKS: Final[Mapping[Curve, int]] = {"k256": 1, "p256": 2}
_CURVES: Final = {mark: curve for curve, mark in _MARKS.items()}
_CHECKSUM_BYTES: Final = 3
_CONTEXT: Final = b"bigworld recovery words 1"
_MAX_SHEET_BYTES: Final = 16_384


class WordsError(ServiceError):
    """Words that are no recovery key; the message names the mistake."""


def words_of(key: PrivateKey) -> list[str]:
    """Return the words of a key."""
    body = bytes([_MARKS[key.curve]]) + key.to_bytes()
    raw = body + _checksum(body)
    return [
        _spell(int.from_bytes(raw[i : i + 2], "big")) for i in range(0, len(raw), 2)
    ]


def key_of(words: Sequence[str]) -> PrivateKey:
    """Return the key of its words. Raises WordsError."""
    if len(words) != WORDS:
        raise WordsError(f"a recovery key has {WORDS} words, not {len(words)}")
    raw = b""
    for place, word in enumerate(words, 1):
        if not _WORD.fullmatch(word):
            # The word is not shown: it may end in a log.
            raise WordsError(f"word {place} is misspelled")
        raw += _read(word).to_bytes(2, "big")
    body, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    if _checksum(body) != checksum:
        raise WordsError("the words do not belong together: one is wrong or misplaced")
    curve = _CURVES.get(body[0])
    if curve is None:
        raise WordsError("the words are of a newer version of this program")
    assert len(body) == 1 + SECRET_BYTES
    return PrivateKey(curve, body[1:])


def sheet_of(key: PrivateKey, account: str, day: str) -> str:
    """Return the sheet to print or to store: what it is for, and the words."""
    words = words_of(key)
    lines = [
        "  ".join(
            f"{place:2} {word}"
            for place, word in enumerate(words[i : i + _PER_LINE], i + 1)
        )
        for i in range(0, WORDS, _PER_LINE)
    ]
    return "\n".join(
        [
            "RECOVERY KEY of an AT Protocol account",
            f"account: {account}",
            f"made: {day}",
            f"public key: {key.public.did_key}",
            "",
            *lines,
            "",
            "Whoever has these words can take the account over. Keep them offline.",
            "Test them once a year: bigworld account keys drill",
            "",
        ]
    )


def read_sheet(text: str) -> PrivateKey:
    """Return the key of a sheet, or of bare words. Raises WordsError.

    A line of a sheet counts if it has only numbers and words of five letters.
    """
    words: list[str] = []
    for line in text.lower().splitlines():
        tokens = re.sub(r"[-.,]", " ", line).split()
        spelled = [token for token in tokens if not token.isdecimal()]
        if spelled and all(len(t) == 5 and t.isalpha() for t in spelled):
            words += spelled
    return key_of(words)


def load_key(path: Path) -> PrivateKey:
    """Return the key of a stored sheet. Raises ServiceError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SHEET_BYTES + 1)
        if len(data) > _MAX_SHEET_BYTES:
            raise WordsError(f"{path} is too large for a recovery key")
        return read_sheet(data.decode())
    except UnicodeDecodeError:
        raise WordsError(f"{path} is not text") from None
    except OSError as error:
        raise ServiceError(f"{path} cannot be read: {error.strerror}") from None


def store_sheet(path: Path, sheet: str) -> None:
    """Write a sheet for its owner only. Raises ServiceError if the file is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(sheet)
            file.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise ServiceError(f"{path} is there already: give another file") from None
    except OSError as error:
        raise ServiceError(f"{path} cannot be written: {error.strerror}") from None


def _checksum(body: bytes) -> bytes:
    return sha256(_CONTEXT + body).digest()[:_CHECKSUM_BYTES]


def _spell(number: int) -> str:
    letters = []
    for alphabet, bits in reversed(_LETTERS):
        number, index = number >> bits, number & ((1 << bits) - 1)
        letters.append(alphabet[index])
    return "".join(reversed(letters))


def _read(word: str) -> int:
    number = 0
    for letter, (alphabet, bits) in zip(word, _LETTERS, strict=True):
        number = number << bits | alphabet.index(letter)
    return number
