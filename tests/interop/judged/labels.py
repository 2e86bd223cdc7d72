"""Labels of our own labeler, which the reference AppView trusts too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Final

from reference_network import get

from judged.stage import Stage

_ACCOUNTS: Final = (
    ("dan", "spam"),
    ("grace", "!warn"),
    ("sybil", "rude"),
    ("ivan", "!hide"),
)
_RECORDS: Final = (
    ("bob speaks of a wombat", "rude"),
    ("labelled", "porn"),
    ("note 1 of the wombat", "!warn"),
    ("quote 1", "!hide"),
    ("friends", "rude"),
    ("all of them", "spam"),
    ("feed one", "porn"),
    ("pack", "rude"),
    ("alice's pack", "spam"),
    ("labeler lila", "rude"),
)


def _subjects(stage: Stage) -> list[tuple[str, str]]:
    accounts = [(stage.did(name), value) for name, value in _ACCOUNTS]
    profile = f"at://{stage.did('bob')}/app.bsky.actor.profile/self"
    records = [(stage.refs[note]["uri"], value) for note, value in _RECORDS]
    return [*accounts, (profile, "rude"), *records]


_ISSUE: Final = """
import json, sys
from service.cli.moderation.label import add
for subject, value in json.loads(sys.argv[1]):
    add(subject, value, "judged")
"""


def issue(stage: Stage, settings: dict[str, str]) -> None:
    """Issue the labels, as the command `label add` does."""
    subprocess.run(
        [sys.executable, "-c", _ISSUE, json.dumps(_subjects(stage))],
        env={**os.environ, **settings},
        check=True,
        capture_output=True,
        timeout=120,
    )


def signed(url: str, stage: Stage) -> list[dict[str, Any]]:
    """Return the labels as rows of the reference AppView once we serve all of them."""
    subjects = _subjects(stage)
    page = get(
        url,
        "com.atproto.label.queryLabels",
        uriPatterns=[uri for uri, _ in subjects],
        limit=250,
    )
    found = [
        {
            "src": label["src"],
            "uri": label["uri"],
            "cid": label.get("cid", ""),
            "val": label["val"],
            "neg": label.get("neg", False),
            "cts": label["cts"],
        }
        for label in page["labels"]
    ]
    return found if len(found) == len(subjects) else []
