"""Events and repos that the PDS serves to indexers."""
