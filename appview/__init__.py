"""The AppView: addresses of records hydrated, filtered by rules, and shown over
XRPC."""
