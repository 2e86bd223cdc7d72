"""Events of the sync stream and their frames."""
