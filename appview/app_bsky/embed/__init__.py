"""Methods of app.bsky.embed."""
