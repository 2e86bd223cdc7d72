"""Fixtures shared by every room's tests: a real PostgreSQL, databases, ports.

Each pytest worker starts its own server (under a second) with durability off, in a
folder that is removed at the end. A database is copied from a migrated template.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from fresh_databases import Databases
from hypothesis import settings

from service.runtime.embedded import EmbeddedPostgres, EmbeddedValkey
from storage.postgres.pool import Conn, Pool

if TYPE_CHECKING:
    pass

# A lost test database is only a rerun, so nothing is forced to disk.
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
    settings.register_profile("default", deadline=None, max_examples=40)
    settings.register_profile("long", deadline=None, max_examples=200)
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
    # Files that take minutes first: the short ones fill up what is left at the end.
    items.sort(key=lambda item: _place(item.path))


def pytest_collection_finish() -> None:
    # The collector would go through all that was imported, again and again.
    gc.collect()
    gc.freeze()


_LONG: Final = (
    "acceptance",
    "simulator",
    "test_bench_runs.py",
    "integration",
    "properties",
    "interop",
)
"""Folders, and files of other folders, that take long."""


def _place(path: Path) -> int:
    """Where in the order a test file is run."""
    parts = path.parts
    return next((n for n, name in enumerate(_LONG) if name in parts), len(_LONG))


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Return True if the long plans run too."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="bw-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def own_server(
    short_folder: Path, request: pytest.FixtureRequest
) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this module's own, that may be killed."""
    home = short_folder / request.module.__name__.rpartition("_")[2]
    settings = {"fsync": "off", "shared_buffers": "32MB"}
    with EmbeddedPostgres(home, settings=settings) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(short_folder: Path) -> Iterator[EmbeddedPostgres]:
    """This worker's PostgreSQL."""
    with EmbeddedPostgres(short_folder / "postgres", settings=_TEST_SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server(short_folder: Path) -> Iterator[EmbeddedValkey]:
    """This worker's Valkey."""
    with EmbeddedValkey(short_folder / "valkey") as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres_server: EmbeddedPostgres) -> Databases:
    """For fixtures that share one database among the tests of a module or session."""
    return Databases(postgres_server)


@pytest.fixture
def make_database(databases: Databases) -> Iterator[Callable[[str], str]]:
    """`make_database("index" | "pds" | "plc")` is the URL of a fresh database."""
    made: list[str] = []

    def make(name: str) -> str:
        made.append(databases.make(name))
        return made[-1]

    yield make
    for url in made:
        databases.drop(url)


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[str]:
    """The URL of a database without any table."""
    url = databases.make(None)
    yield url
    databases.drop(url)


@pytest.fixture
def index_db(make_database: Callable[[str], str]) -> str:
    """The URL of a fresh index database."""
    return make_database("index")


@pytest.fixture
def conn(index_db: str) -> Iterator[Conn]:
    """One connection to a fresh index database; the test decides when to commit."""
    with psycopg.connect(index_db) as connection:
        yield connection


@pytest.fixture
def pool(index_db: str) -> Iterator[Pool]:
    """A small pool on a fresh index database."""
    from storage.postgres.pool import open_pool

    with open_pool(index_db, min=1, max=4) as opened:
        yield opened


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago; prefer port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of the protocol's interop vectors; skips when it is not given."""
    return _data_folder("ATPROTO_VECTORS", "the protocol's interop test vectors")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of recorded frames and repos; skips when it is not given."""
    return _data_folder("ATPROTO_REFERENCE", "frames and repos of reference servers")


def _data_folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"set {variable} to the folder with {what}")
    return Path(value)
