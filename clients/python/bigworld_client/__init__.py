"""A typed client of Bigworld's own methods."""

from bigworld_client.methods import Client
from bigworld_client.transport import XrpcError, read_pages

__all__ = ["Client", "XrpcError", "read_pages"]
