"""Live streams: frames from the socket to the index."""
