"""Methods of blue.microcosm, as other link indexes serve them."""
