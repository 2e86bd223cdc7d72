"""Simulations on one server, opened by name."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from simulated_network import SimulatedNetwork
from simulation import Simulation

from service.runtime.embedded import EmbeddedPostgres
from storage import migrate


class Simulations(ExitStack):
    """A context manager that closes all that it opened."""

    def __init__(self, server: EmbeddedPostgres, folder: Path) -> None:
        super().__init__()
        self._server = server
        self._folder = folder

    def open(self, name: str, network: SimulatedNetwork, **options: Any) -> Simulation:
        """Return a simulation with an index of its own."""
        self.callback(network.close)
        self._server.ensure_database(name)
        url = self._server.url(name)
        migrate.upgrade(url, "index")
        migrate.upgrade(url, "private")
        run = Simulation(url, self._folder, network, **options)
        self.callback(run.close)
        return run
