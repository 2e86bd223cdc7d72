"""Methods of bigworld.feed: recipes of feeds that accounts publish."""
