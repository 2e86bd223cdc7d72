"""Methods of app.bsky.bookmark."""
