"""Methods of app.bsky.unspecced."""
