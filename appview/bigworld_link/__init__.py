"""Methods of bigworld.link."""
