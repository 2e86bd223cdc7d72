"""Fixtures shared by all tests: a PostgreSQL and a Valkey server, databases, ports.

Each pytest worker starts its own servers, with durability off, in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from fresh_databases import Databases
from hypothesis import HealthCheck, settings

from service.runtime.embedded import EmbeddedPostgres, EmbeddedValkey
from service.runtime.garbage_collection import tune_gc
from storage.postgres.pool import Conn, Pool

# Test databases need no durability.
_TEST_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="run the long fault and load plans too"
    )


def pytest_configure(config: pytest.Config) -> None:
    # The time of one example says more about the machine's load than about the code.
    settings.register_profile(
        "default",
        deadline=None,
        max_examples=40,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.register_profile("long", settings.get_profile("default"), max_examples=200)
    settings.load_profile("long" if config.getoption("--long") else "default")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests and fixtures on asyncio."""
    return "asyncio"


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    missing = {
        "long": not config.getoption("--long"),
        "meilisearch": "MEILI_URL" not in os.environ,
    }
    reasons = {
        "long": "a long plan: run with --long",
        "meilisearch": "needs a Meilisearch server: set MEILI_URL",
    }
    for item in items:
        for marker, absent in missing.items():
            if absent and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reasons[marker]))
    # Slow files first: the short ones fill the workers at the end.
    items.sort(key=lambda item: _place(item.path))


def pytest_collection_finish() -> None:
    # The collector would go through all that was imported, again and again.
    tune_gc()


_LONG: Final = (
    "acceptance",
    "simulator",
    "test_bench_runs.py",
    "integration",
    "properties",
    "interop",
)
"""Slow folders and files, the slowest first."""


def _place(path: Path) -> int:
    """Return the place of a test file in the order of the run."""
    parts = path.parts
    return next((n for n, name in enumerate(_LONG) if name in parts), len(_LONG))


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Return True if the long plans run too."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="bw-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def own_server(
    short_folder: Path, request: pytest.FixtureRequest
) -> Iterator[EmbeddedPostgres]:
    """Start a PostgreSQL that the tests of one module may kill."""
    home = short_folder / request.module.__name__.rpartition("_")[2]
    settings = {"fsync": "off", "shared_buffers": "32MB"}
    with EmbeddedPostgres(home, settings=settings) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(short_folder: Path) -> Iterator[EmbeddedPostgres]:
    """Start the PostgreSQL of this worker."""
    with EmbeddedPostgres(short_folder / "postgres", settings=_TEST_SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server(short_folder: Path) -> Iterator[EmbeddedValkey]:
    """Start the Valkey of this worker."""
    with EmbeddedValkey(short_folder / "valkey") as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres_server: EmbeddedPostgres) -> Databases:
    """Return the databases of this worker, for fixtures of a module or session."""
    return Databases(postgres_server)


@pytest.fixture
def make_database(databases: Databases) -> Iterator[Callable[[str], str]]:
    """Return a function that makes a database of a target and returns its URL."""
    made: list[str] = []

    def make(name: str) -> str:
        made.append(databases.make(name))
        return made[-1]

    yield make
    for url in made:
        databases.drop(url)


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[str]:
    """Return the URL of a database without tables."""
    url = databases.make(None)
    yield url
    databases.drop(url)


@pytest.fixture
def index_db(make_database: Callable[[str], str]) -> str:
    """Return the URL of a fresh index database."""
    return make_database("index")


@pytest.fixture
def conn(index_db: str) -> Iterator[Conn]:
    """Connect to a fresh index database; the test decides when to commit."""
    with psycopg.connect(index_db) as connection:
        yield connection


@pytest.fixture
def pool(index_db: str) -> Iterator[Pool]:
    """Open a small pool on a fresh index database."""
    from storage.postgres.pool import open_pool

    with open_pool(index_db, min=1, max=4) as opened:
        yield opened


@pytest.fixture
def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago; prefer port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Return the folder of the interop vectors, or skip."""
    return _data_folder("ATPROTO_VECTORS", "the protocol's interop test vectors")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Return the folder of recorded frames and repos, or skip."""
    return _data_folder("ATPROTO_REFERENCE", "frames and repos of reference servers")


def _data_folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"set {variable} to the folder with {what}")
    return Path(value)
