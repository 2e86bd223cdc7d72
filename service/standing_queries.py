"""Saved searches and recipes, matched together with drained records."""

from __future__ import annotations

from functools import partial

from feeds.serving.recipe_matcher import RecipeMatcher
from search.matches.match_pass import MatchPass
from search.matches.saved_matcher import SavedMatcher
from service.runtime.config import Config
from storage.private.private_store import PrivateStore


def standing_queries(config: Config, private: PrivateStore) -> MatchPass:
    """Return the standing queries of a drain."""
    return MatchPass(
        partial(SavedMatcher, private),
        partial(RecipeMatcher, private, config.provider_did),
    )
