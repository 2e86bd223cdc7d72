"""The service as a relay and mirror: streams, repos, proofs."""
