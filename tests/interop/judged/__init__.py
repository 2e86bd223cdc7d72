"""The judge: one network, two indexers, the same questions."""
