"""`bigworld plc`: the identity directory as a process."""

from __future__ import annotations

from plc.server import create_app
from service.config import Config
from service.databases import PLC, open_database
from service.verbs.running import run_async, serve_until_stopped
from storage.pool import open_pool


def run(config: Config) -> None:
    """Serve the directory until told to stop."""
    with open_database(config, PLC) as url, open_pool(url, max=8) as pool:
        app = create_app(pool)
        run_async(serve_until_stopped(app, config, config.plc_port), config)
