"""`bigworld mcp`: tools of the Model Context Protocol on standard input and output."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from analytics.questions import Bounds, Result, ask, open_reader
from analytics.reader_role import READER
from service.cli.provider_client import query_provider
from service.mcp_tools import AskSql, make_server
from service.operator_errors import ServiceError
from service.runtime.config import Config
from service.runtime.databases import INDEX, open_existing


def run_mcp(config: Config) -> None:
    """Serve the tools until standard input closes.

    The tool `sql` is there if the database lets its reader log in: only then can no
    statement take other rights.
    """

    def query(nsid: str, params: Mapping[str, Any]) -> Any:
        return query_provider(config, nsid, params)

    with ExitStack() as resources:
        make_server(query, _open_sql(config, resources)).run("stdio")


def _open_sql(config: Config, resources: ExitStack) -> AskSql | None:
    try:
        url = resources.enter_context(open_existing(config, INDEX, start=False))
    except ServiceError:
        return None
    with open_reader(url) as conn:
        if conn.info.user != READER:
            return None

    def ask_sql(statement: str, bounds: Bounds) -> Result:
        with open_reader(url) as conn:
            return ask(conn, statement, bounds)

    return ask_sql
