"""app.bsky.ageassurance.getState: unknown, as this provider assures no ages."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import Params, SessionRead
from appview.session import Session
from appview.views.common import datetime_text, present


def _read(session: Session, _: Params) -> dict[str, Any]:
    row = session.conn.execute(
        "SELECT created_at FROM profile WHERE actor = %s", (session.viewer_actor,)
    ).fetchone()
    created_at = row[0] if row else None
    return {
        "state": {"status": "unknown", "access": "unknown"},
        "metadata": present(
            accountCreatedAt=datetime_text(created_at) if created_at else None
        ),
    }


METHOD: Final = SessionRead(_read, auth="required")
