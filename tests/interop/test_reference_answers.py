"""Our responses and those of the reference AppView, on one network.

Needs `tests/interop/reference/install`; see docs/explanation/reference-servers.md. The
report goes to the file that REFERENCE_REPORT names.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from judged.compare import Verdict, compare, judge
from judged.differences import rules
from judged.question import Server
from judged.questions import questions, repo_questions, sample
from judged.world import World
from reference_network import is_installed

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]


def test_responses_equal_the_reference(world: World, long: bool) -> None:
    verdict = Verdict(rules(world.stage))
    for question, ours, theirs in world.told:
        verdict.add(question, compare(question, ours, theirs))
    # By default a sample: as many questions of each method, by different viewers.
    most = 10_000 if long else 8
    asked = sample(questions(world.stage, whole=long), most)
    judge(world.ours, world.theirs, asked, verdict)
    for url in world.stage.servers:
        asked = sample(repo_questions(world.stage, url), most)
        judge(world.ours, Server(url, "", {}), asked, verdict)
    report = world.stage.name(verdict.text())
    if "REFERENCE_REPORT" in os.environ:
        Path(os.environ["REFERENCE_REPORT"]).write_text(report)
    assert not verdict.differences, report[:20_000]
