"""Methods of app.bsky.unspecced that return skeletons."""
