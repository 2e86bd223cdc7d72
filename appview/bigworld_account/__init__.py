"""Methods of bigworld.account."""
