"""The `opensearch` engine: a cluster, past one machine."""
