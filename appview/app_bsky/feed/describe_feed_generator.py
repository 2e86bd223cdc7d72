"""app.bsky.feed.describeFeedGenerator."""

from __future__ import annotations

from typing import Final

from appview.pipeline import SessionRead
from appview.skeletons.generators import find_served_feeds

METHOD: Final = SessionRead(
    lambda session, _: {
        "did": session.app.service_did,
        "feeds": [{"uri": uri} for uri in find_served_feeds(session)],
    }
)
