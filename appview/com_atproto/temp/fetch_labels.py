"""com.atproto.temp.fetchLabels (deprecated): labels after a time, without a cursor."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.session import Session
from appview.shapes.signed_labels import load_subjects, present_labels, shown_labels
from appview.skeletons.signed_labels import StoredLabel, labels_since
from storage.postgres.instants import from_micros
from storage.records.addresses import find_actors

_LAST_MS: Final = 253_402_300_799_000
"""The end of the year 9999."""


def _find(session: Session, params: Params) -> list[StoredLabel]:
    sources = find_actors(session.conn, session.app.default_labelers).values()
    since = from_micros(1_000 * min(max(params.get("since", 0), 0), _LAST_MS))
    return labels_since(session.conn, [*sources], since, params["limit"])


def _present(state: State, found: list[StoredLabel], _: Params) -> dict[str, Any]:
    return present_labels(found)


METHOD: Final = Pipeline(
    skeleton=_find, hydrate=load_subjects, rules=shown_labels, present=_present
)
