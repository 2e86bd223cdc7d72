"""Light stems of words by Snowball, kept beside the words themselves."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
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
MARK: Final = "ˢ"
"""Last character of a stem in an index; folding takes it out of every other token."""
_SHORTEST: Final = 4
_OF_SCRIPT: Final = (
    ("LATIN", ("en", "pt", "es", "de", "fr", "it", "nl", "sv")),
    ("CYRILLIC", ("ru", "sr")),
    ("ARABIC", ("ar",)),
    ("DEVANAGARI", ("hi", "ne")),
    ("GREEK", ("el",)),
    ("ARMENIAN", ("hy",)),
    ("TAMIL", ("ta",)),
)
"""Languages in which a word of a query is stemmed: those of most posts."""
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


def index_stems(tokens: Sequence[str], lang: str) -> list[str]:
    """Return the marked stems of a document's tokens, each once."""
    found = dict.fromkeys(stem for stem in stem_tokens(tokens, lang) if stem)
    return [stem + MARK for stem in found]


@lru_cache(maxsize=20_000)
def other_forms(token: str) -> tuple[str, ...]:
    """Return tokens of an index by which other forms of a word of a query are found.

    The language of a query is not known: several of its script are tried.
    """
    langs = _langs_of(token)
    if not langs:
        return ()
    forms = {token + MARK: None}
    for lang in langs:
        (stem,) = stem_tokens([token], lang)
        if stem:
            forms |= {stem: None, stem + MARK: None}
    return tuple(forms)


def _langs_of(token: str) -> Sequence[str]:
    if not token.isalpha() and not any(map(str.isalpha, token)):
        return ()
    script = unicodedata.name(token[0], "").partition(" ")[0]
    return next((langs for name, langs in _OF_SCRIPT if name == script), ())


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
