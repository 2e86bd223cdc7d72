"""Identity resolution: DIDs, handles, service tokens."""
