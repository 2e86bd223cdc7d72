"""app.bsky.feed.describeFeedGenerator."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params, SessionRead
from appview.session import Session
from appview.skeletons.generators import find_served_feeds


def _describe(session: Session, _: Params) -> dict[str, Any]:
    settings = session.app.client_settings
    links = {
        "privacyPolicy": settings.privacy_policy,
        "termsOfService": settings.terms_of_service,
    }
    set_links = {name: url for name, url in links.items() if url is not None}
    return {
        "did": session.app.service_did,
        "feeds": [{"uri": uri} for uri in find_served_feeds(session)],
        **({"links": set_links} if set_links else {}),
    }


METHOD: Final = SessionRead(_describe)
