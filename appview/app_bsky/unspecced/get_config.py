"""app.bsky.unspecced.getConfig: settings for clients."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params
from appview.session import RequestContext
from appview.shapes.client_settings import SettingsRead


def _read(context: RequestContext, _: Params) -> dict[str, Any]:
    settings = context.app.client_settings
    live_now = [
        {"did": did, "domains": domains} for did, domains in settings.live_now.items()
    ]
    return {
        "checkEmailConfirmed": settings.check_email_confirmed,
        # Not in the lexicon: clients show trending topics, which are always served.
        "topicsEnabled": True,
        **({"liveNow": live_now} if live_now else {}),
    }


METHOD: Final = SettingsRead(_read)
