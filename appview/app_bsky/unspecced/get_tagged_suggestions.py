"""app.bsky.unspecced.getTaggedSuggestions: what is popular with everybody."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.skeleton import dids, uris
from appview.shapes.suggested import account_suggestions, feed_suggestions
from network.xrpc.server import AuthMode

_TAG: Final = "popular"
_LIMIT: Final = 10
_ACTORS: Final = account_suggestions(dids)
_FEEDS: Final = feed_suggestions(uris("feeds"))


class _TaggedSuggestions(BlockingMethod):
    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        limit = {"limit": _LIMIT}
        found = [("actor", did) for did in _ACTORS.run(context, limit)["dids"]]
        found += [("feed", uri) for uri in _FEEDS.run(context, limit)["feeds"]]
        return {
            "suggestions": [
                {"tag": _TAG, "subjectType": kind, "subject": subject}
                for kind, subject in found
            ]
        }


METHOD: Final = _TaggedSuggestions()
