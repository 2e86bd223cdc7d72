"""Keys, DID documents, service tokens."""
