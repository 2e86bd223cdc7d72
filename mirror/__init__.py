"""What we serve as a relay and mirror: streams out, repos, proofs."""
