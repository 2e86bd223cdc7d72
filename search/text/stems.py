"""Light stems of words by Snowball, kept beside the words themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from threading import local
from typing import Any, Final

_ALGORITHMS: Final = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "eo": "esperanto",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
STEMMED_LANGUAGES: Final = frozenset(_ALGORITHMS)
_SHORTEST: Final = 4
_CACHED_WORDS: Final = 20_000
_stemmers: Final = local()


def stem_tokens(tokens: Sequence[str], lang: str) -> list[str | None]:
    """Return the stem of each token in a language.

    None where it equals the token, where the token is short or no word, and where the
    language has no stemmer.
    """
    stemmer = _stemmer_of(lang)
    if stemmer is None:
        return [None] * len(tokens)
    stems = stemmer.stemWords([token if _is_word(token) else "" for token in tokens])
    return [
        stem if stem and stem != token else None
        for stem, token in zip(stems, tokens, strict=True)
    ]


def _is_word(token: str) -> bool:
    return len(token) >= _SHORTEST and not token[0].isdigit() and token[-1] not in "+#"


def _stemmer_of(lang: str) -> Any:
    """Return the stemmer of this thread, since one must not be shared."""
    algorithm = _ALGORITHMS.get(lang)
    if algorithm is None or algorithm not in _known():
        return None
    held: dict[str, Any] = _stemmers.__dict__
    if algorithm not in held:
        import Stemmer

        held[algorithm] = Stemmer.Stemmer(algorithm, _CACHED_WORDS)
    return held[algorithm]


@cache
def _known() -> frozenset[str]:
    import Stemmer

    return frozenset(Stemmer.algorithms())
