"""Tokens of a text, for documents and queries alike.

NFKC, lower case, CJK runs as overlapping bigrams, emoji as words. Accents are folded
outside CJK, where folding would destroy Japanese voiced sounds.
"""

from __future__ import annotations

import re
import unicodedata

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\u3005"
_EMOJI = "\U0001f300-\U0001faff\u2600-\u27bf\U0001f1e6-\U0001f1ff"
_TOKEN = re.compile(
    rf"(?P<cjk>[{_CJK}]+)"
    rf"|(?P<emoji>[{_EMOJI}](?:[\ufe0f\u200d]*[{_EMOJI}])*\ufe0f?)"
    rf"|(?P<word>[^\W_{_CJK}{_EMOJI}]+(?:['’_][^\W_{_CJK}{_EMOJI}]+)*)"
)
_KEEPS_ACCENTS = re.compile(rf"[{_CJK}\uac00-\ud7af]")
MAX_TOKEN_CHARS = 64
"""Longer words are cut, to bound the index."""


def fold(word: str) -> str:
    """Return the word without accents, unless its script needs them."""
    if word.isascii() or _KEEPS_ACCENTS.search(word):
        return word
    parts = unicodedata.normalize("NFD", word)
    return unicodedata.normalize(
        "NFC", "".join(c for c in parts if not unicodedata.combining(c))
    )


def tokenize(text: str, *, limit: int = 16_000) -> list[str]:
    """Return the tokens of `text` in order, at most `limit` of them.

    A single CJK character is a token. A longer run gives its bigrams, so that a query
    of two or more characters is a phrase of bigrams.
    """
    tokens: list[str] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFKC", text).lower()):
        kind, found = match.lastgroup, match.group()
        if kind == "cjk":
            if len(found) == 1:
                tokens.append(found)
            else:
                tokens += [found[i : i + 2] for i in range(len(found) - 1)]
        elif kind == "emoji":
            tokens.append(found.replace("\ufe0f", "")[:MAX_TOKEN_CHARS])
        else:
            word = fold(found).replace("’", "'")
            tokens.append(word[:MAX_TOKEN_CHARS])
        if len(tokens) >= limit:
            return tokens[:limit]
    return tokens


def is_cjk(text: str) -> bool:
    """Return True if the text holds CJK characters, whose tokens are bigrams."""
    return _KEEPS_ACCENTS.search(text) is not None
