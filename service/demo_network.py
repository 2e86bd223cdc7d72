"""The demo network of `bigworld up`: its society, seeded once, and its hand-out."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg

from service.operator_errors import ConfigError, SeedingError, ServiceError
from service.runtime.config import Config
from service.runtime.secrets import SecretStore

# A network that is seeded already starts without the people and the HTTP client.
if TYPE_CHECKING:
    from demo.plan import Society
    from demo.seeding import Progress, Say
    from network.http.client import Fetcher

LETTERS = ("a", "b")
_SEED = 20_240_229
_STATE_FILE = "society.json"
_PASSWORD = "demo-password"  # noqa: S105  (the name of a secret, not the secret)
_LIST_REPOS = "com.atproto.sync.listRepos"
_PAGE = 1_000
# The first PDS is on the second port after the provider's.
_FIRST_PDS = 2


def pds_urls(config: Config) -> tuple[str, ...]:
    """The origins of the embedded PDSes."""
    return tuple(config.pds_url(letter) for letter in LETTERS)


def own_fetcher(config: Config) -> Fetcher:
    """A client for the servers of the demo network, which are in no need of mercy."""
    from network.http.client import Fetcher
    from network.http.policy import HostLimits, Policy

    limits = HostLimits(rate=5_000, burst=5_000, concurrency=32, max_wait=600)
    policy = Policy(allow_loopback=True, limits=limits, total_timeout=120.0)
    return Fetcher(policy, user_agent=config.user_agent)


def load_state(config: Config) -> dict[str, Any]:
    """What earlier runs remember: `now_us`, `done`, and the demo `accounts`."""
    try:
        state: dict[str, Any] = json.loads((config.home / _STATE_FILE).read_text())
    except FileNotFoundError:
        return {"now_us": time.time_ns() // 1_000, "done": False}
    except ValueError as error:
        raise ConfigError(
            f"{config.home / _STATE_FILE} is damaged ({error}): restore it from a"
            " backup, or set BIGWORLD_HOME to a new folder"
        ) from None
    return state


def at_remembered_ports(config: Config) -> Config:
    """Return the settings with the ports of the demo network in this home, if any.

    Identities and documents of its accounts name these ports. Raises ConfigError
    where the settings ask for others.
    """
    state = load_state(config)
    remembered = state.get("port_base") or _port_of_accounts(state)
    if remembered is None or remembered == config.port_base:
        return config
    if "port_base" in config.model_fields_set:
        raise ConfigError(
            f"port_base: the demo network in {config.home} was made for port"
            f" {remembered}, and the identities of its accounts name it, not"
            f" {config.port_base}: use --port-base {remembered}, or set BIGWORLD_HOME"
            " to a new folder for a second network"
        )
    return config.model_copy(update={"port_base": remembered})


def _port_of_accounts(state: dict[str, Any]) -> int | None:
    """Return the port base of a home that was filled before ports were written down."""
    ports = [urlsplit(account["pds"]).port for account in state.get("accounts", ())]
    first = min((port for port in ports if port is not None), default=None)
    return None if first is None else first - _FIRST_PDS


async def seed(
    config: Config, state: dict[str, Any], progress: Progress, say: Say
) -> Society:
    """Fill both PDSes, or go on where an interrupted run stopped.

    The moment the planned life ends at is written down first: the same moment gives
    the same records, so nothing is written twice.
    """
    from demo.accounts import DEMO
    from demo.records import plan_society
    from demo.seeding import SeedingError as ServerError
    from demo.seeding import handle_domains, settle

    state["port_base"] = config.port_base
    _write_private(config.home / _STATE_FILE, state)
    servers = pds_urls(config)
    password = demo_password(config)
    try:
        async with own_fetcher(config) as fetcher:
            society = plan_society(
                seed=_SEED,
                now_us=state["now_us"],
                domains=await handle_domains(fetcher, servers),
                provider=config.provider_did,
            )
            dids = await settle(society, fetcher, servers, password, progress, say)
    except ServerError as error:
        failure = SeedingError if error.may_retry else ServiceError
        raise failure(str(error)) from error
    state["accounts"] = [
        {
            "handle": person.handle,
            "did": dids[person.number],
            "password": password,
            "pds": servers[person.server],
        }
        for person in society.people[: len(DEMO)]
    ]
    state["done"] = True
    _write_private(config.home / _STATE_FILE, state)
    return society


def demo_password(config: Config) -> str:
    """The password of every account of the society; made once a home."""
    return SecretStore(config.home).password(_PASSWORD)


async def newest_revs(config: Config) -> dict[str, str]:
    """DID -> rev of every active repo, as the PDSes list them."""
    from network.xrpc.client import XrpcClient

    revs: dict[str, str] = {}
    async with own_fetcher(config) as fetcher:
        for server in pds_urls(config):
            client = XrpcClient(fetcher, server)
            cursor: str | None = None
            while True:
                params = {"limit": _PAGE, "cursor": cursor}
                page = await client.query(_LIST_REPOS, params)
                revs |= {
                    repo["did"]: repo["rev"]
                    for repo in page["repos"]
                    if repo.get("active", True)
                }
                cursor = page.get("cursor")
                if not cursor:
                    break
    return revs


def count_indexed(index_url: str, revs: dict[str, str]) -> int:
    """How many of the repos stand in the index at these revs or later, searchable."""
    query = """
        SELECT count(*)
        FROM unnest(%s::text[], %s::text[]) AS wanted(did, rev)
        JOIN actor USING (did)
        JOIN repo ON repo.actor = actor.id
        WHERE repo.state = 'synchronized' AND repo.rev >= wanted.rev COLLATE "C"
          AND NOT EXISTS (SELECT FROM search_outbox o WHERE o.actor = actor.id)
    """
    with psycopg.connect(index_url) as conn:
        row = conn.execute(query, (list(revs), list(revs.values()))).fetchone()
    assert row is not None
    return int(row[0])


def write_endpoints(config: Config, accounts: list[dict[str, str]]) -> Path:
    """Write $BIGWORLD_HOME/endpoints.json for people and programs; returns its path."""
    endpoints: dict[str, Any] = {
        "provider": {"url": config.provider_url, "did": config.provider_did},
        "plc": config.directory_url,
        "pds": dict(zip(LETTERS, pds_urls(config), strict=True)) if accounts else {},
        "accounts": accounts,
    }
    path = config.home / "endpoints.json"
    _write_private(path, endpoints)
    return path


def _write_private(path: Path, value: Any) -> None:
    """Replace a file at once, readable by us only: it holds passwords."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
    draft.replace(path)
