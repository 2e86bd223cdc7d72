"""Methods of app.bsky.graph."""
