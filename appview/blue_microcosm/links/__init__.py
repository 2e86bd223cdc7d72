"""Methods of blue.microcosm.links."""
