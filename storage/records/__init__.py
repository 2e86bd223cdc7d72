"""Records, links, counts and their addresses."""
