"""The demo network of `bigworld up`: its state, its seeding, its endpoints."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from service.operator_errors import ConfigError, SeedingError, ServiceError
from service.runtime.config import Config
from service.runtime.home import write_private
from service.runtime.secrets import SecretStore

# A seeded network starts without the plan and the HTTP client.
if TYPE_CHECKING:
    from demo.plan import DemoNetwork
    from demo.seeding import Progress, Say
    from network.http.client import Fetcher

LETTERS = ("a", "b")
RECIPES = Path(__file__).resolve().parents[1] / "demo" / "recipes"
_SEED = 20_240_229
_STATE_FILE = "society.json"
_PASSWORD = "demo-password"  # noqa: S105  (the name of a secret, not the secret)
# The first PDS is on the second port after the provider's.
_FIRST_PDS = 2


def pds_urls(config: Config) -> tuple[str, ...]:
    """Return the origins of the embedded PDSes."""
    return tuple(config.pds_url(letter) for letter in LETTERS)


def own_fetcher(config: Config) -> Fetcher:
    """Return a client with wide limits for our own servers."""
    from network.http.client import Fetcher
    from network.http.policy import HostLimits, Policy

    limits = HostLimits(rate=5_000, burst=5_000, concurrency=32, max_wait=600)
    policy = Policy(allow_loopback=True, limits=limits, total_timeout=120.0)
    return Fetcher(policy, user_agent=config.user_agent)


def load_state(config: Config) -> dict[str, Any]:
    """Return the state of earlier runs: `now_us`, `done`, and the demo `accounts`."""
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

    Its DID documents name these ports. Raises ConfigError if the settings differ.
    """
    state = load_state(config)
    remembered = state.get("port_base") or _port_of_accounts(state)
    if remembered is None or remembered == config.port_base:
        return config
    if "port_base" in config.model_fields_set:
        raise ConfigError(
            f"port_base: the demo network in {config.home} was created for port"
            f" {remembered}, which its identities name, not {config.port_base}: use"
            f" --port-base {remembered}, or set BIGWORLD_HOME to a new folder"
        )
    return config.model_copy(update={"port_base": remembered})


def _port_of_accounts(state: dict[str, Any]) -> int | None:
    """Return the port base of a home whose state does not name it."""
    ports = [urlsplit(account["pds"]).port for account in state.get("accounts", ())]
    first = min((port for port in ports if port is not None), default=None)
    return None if first is None else first - _FIRST_PDS


def copy_recipes(config: Config) -> None:
    """Copy the example recipes into the folder of recipes, if there is none yet."""
    folder = config.feeds or config.home / "feeds.d"
    if folder.exists():
        return
    folder.mkdir(parents=True)
    for path in sorted(RECIPES.glob("*.toml")):
        shutil.copyfile(path, folder / path.name)


async def seed(
    config: Config, state: dict[str, Any], progress: Progress, say: Say
) -> DemoNetwork:
    """Seed both PDSes, or continue an interrupted run.

    The end time of the plan is stored first: it determines all records, so that none is
    written twice.
    """
    from demo.demo_accounts import DEMO
    from demo.records import plan_network
    from demo.seeding import SeedingError as ServerError
    from demo.seeding import fetch_domains, seed_network

    state["port_base"] = config.port_base
    write_private(config.home / _STATE_FILE, state)
    servers = pds_urls(config)
    password = demo_password(config)
    try:
        async with own_fetcher(config) as fetcher:
            network = plan_network(
                seed=_SEED,
                now_us=state["now_us"],
                domains=await fetch_domains(fetcher, servers),
                provider=config.provider_did,
            )
            dids = await seed_network(
                network, fetcher, servers, password, progress, say
            )
    except ServerError as error:
        failure = SeedingError if error.may_retry else ServiceError
        raise failure(str(error)) from error
    state["accounts"] = [
        {
            "handle": account.handle,
            "did": dids[account.number],
            "password": password,
            "pds": servers[account.server],
        }
        for account in network.accounts[: len(DEMO)]
    ]
    state["done"] = True
    write_private(config.home / _STATE_FILE, state)
    return network


def demo_password(config: Config) -> str:
    """Return the password of every demo account of this home."""
    return SecretStore(config.home).password(_PASSWORD)


async def newest_revs(config: Config) -> dict[str, str]:
    """Return the revs of all active repos by DID, as the PDSes list them."""
    from demo.indexing import newest_revs

    async with own_fetcher(config) as fetcher:
        return await newest_revs(fetcher, pds_urls(config))


def write_endpoints(config: Config, accounts: list[dict[str, str]]) -> Path:
    """Write $BIGWORLD_HOME/endpoints.json and return its path."""
    endpoints: dict[str, Any] = {
        "provider": {"url": config.provider_url, "did": config.provider_did},
        "plc": config.directory_url,
        "pds": dict(zip(LETTERS, pds_urls(config), strict=True)) if accounts else {},
        "accounts": accounts,
    }
    path = config.home / "endpoints.json"
    write_private(path, endpoints)
    return path
