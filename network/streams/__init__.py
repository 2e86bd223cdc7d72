"""Event streams: subscription client and server."""
