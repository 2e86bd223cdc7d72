"""Labels as they were signed, without those on what is hidden."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from appview.hydration.state import State
from appview.skeletons.signed_labels import StoredLabel
from labels.signed_label import label_fields, label_json


def load_subjects(state: State, labels: Iterable[StoredLabel]) -> None:
    """Load the accounts that labels are about."""
    state.load_actors(label.actor for label in labels)


def shown_labels(state: State, labels: Sequence[StoredLabel]) -> list[StoredLabel]:
    """Return the labels whose subjects our operator has not taken down.

    Labels on unknown and inactive accounts are shown: other services ask for them.
    """
    taken = state.session.taken_down

    def is_shown(label: StoredLabel) -> bool:
        actor = state.actors.get(label.actor)
        if actor is None or actor.takedown is not None:
            return actor is None
        if actor.did in taken.accounts:
            return False
        if actor.did not in taken.authors:
            return True
        return label_fields(label.raw)["uri"] not in taken.records

    return [label for label in labels if is_shown(label)]


def present_labels(labels: Iterable[StoredLabel]) -> dict[str, Any]:
    """Return the JSON of labels."""
    return {"labels": [label_json(label.raw) for label in labels]}
