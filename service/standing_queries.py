"""Listeners of the drain: saved searches, recipes, and records as JSON."""

from __future__ import annotations

from functools import partial

from analytics.record_json import keep_json
from feeds.serving.recipe_matcher import RecipeMatcher
from search.matches.match_pass import LogMatches, MatchPass
from search.matches.saved_matcher import SavedMatcher
from service.runtime.config import Config
from storage.private.private_store import PrivateStore


def standing_queries(config: Config, private: PrivateStore) -> MatchPass:
    """Return the standing queries of a drain."""
    return MatchPass(
        partial(SavedMatcher, private),
        partial(RecipeMatcher, private, config.provider_did),
    )


def drain_listener(config: Config, private: PrivateStore) -> LogMatches:
    """Return what a drain calls with the records of each batch."""
    log_matches = standing_queries(config, private).log_matches
    return keep_json(log_matches) if config.keeps_record_json else log_matches
