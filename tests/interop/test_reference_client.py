"""A visit of the official client to us by three routes, and to the reference AppView.

No step may fail with us that passes there. The routes are a reference PDS whose AppView
we are, one that reaches us by `atproto-proxy`, and our own PDS.
Needs `tests/interop/reference/install`; see docs/explanation/reference-servers.md.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any, Final

import pytest
from judged.world import World
from reference_network import FOLDER, NODE, is_installed

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

FEWEST_STEPS: Final = 180
ONLY_OURS: Final = frozenset(
    {
        # Their backends for topics and suggestions are not part of the package.
        "boot: trending topics",
        "boot: trends",
        "boot: suggested users",
        "boot: suggested feeds",
        "boot: suggested starter packs",
        # Their notification service for subscribers neither.
        "a subscribed post notifies",
    }
)
"""Steps that fail on the reference AppView here, and must pass with us."""


PREFERENCES: Final = ("boot: preferences", "set preferences", "preferences stay")


@dataclass(frozen=True)
class Route:
    """A PDS, the domain of its handles, and an `atproto-proxy` header."""

    pds: str
    domain: str
    proxy: str = ""


def visit(route: Route, prefix: str) -> dict[str, str]:
    """Let the client go through all its steps; return their errors, "" for none."""
    options = {
        "pds": route.pds,
        "domain": route.domain,
        "proxy": route.proxy,
        "prefix": prefix,
    }
    done = subprocess.run(
        [str(NODE), str(FOLDER / "client.mjs"), json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=FOLDER,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    found = {step["name"]: step.get("error", "") for step in steps}
    assert len(found) == len(steps), "two steps have one name"
    return found


@pytest.fixture(scope="module")
def theirs(world: World) -> dict[str, str]:
    """Return the steps with the reference AppView."""
    return visit(Route(world.endpoints["pds"][0], ".one.test"), "theirs")


def check(ours: dict[str, str], theirs: dict[str, str]) -> None:
    """Fail for steps that fail with us only."""
    assert len(ours) >= FEWEST_STEPS
    assert ours.keys() == theirs.keys()
    failed = {name: error for name, error in ours.items() if error}
    passed = {name for name, error in theirs.items() if not error}
    assert {name: failed[name] for name in failed.keys() & passed} == {}
    assert {name: failed[name] for name in failed.keys() & ONLY_OURS} == {}
    assert theirs.keys() - passed <= ONLY_OURS, theirs


def test_reference_client_passes_on_a_reference_pds_of_ours(
    world: World, theirs: dict[str, str]
) -> None:
    check(visit(Route(world.endpoints["pds"][1], ".two.test"), "ours"), theirs)


def test_reference_client_passes_by_atproto_proxy(world: World) -> None:
    # Their PDS forwards no putPreferences by the header, for any service.
    first, second = world.endpoints["pds"]
    proxy = f"{world.endpoints['appview']['did']}#bsky_appview"
    theirs = visit(Route(second, ".two.test", proxy), "theirproxied")
    route = Route(first, ".one.test", f"{world.did}#bsky_appview")
    ours = visit(route, "proxied")
    unserved = {name for name in theirs if name.startswith(PREFERENCES)}
    check(
        {name: error for name, error in ours.items() if name not in unserved},
        {name: error for name, error in theirs.items() if name not in unserved},
    )


def test_reference_client_passes_on_our_own_pds(
    world: World, theirs: dict[str, str]
) -> None:
    check(visit(Route(world.endpoints["own"], ".a.test"), "own"), theirs)
