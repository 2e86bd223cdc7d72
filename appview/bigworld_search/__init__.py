"""Methods of bigworld.search."""
