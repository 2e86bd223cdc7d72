"""Methods of app.bsky: `app_bsky/feed/get_posts.py` is app.bsky.feed.getPosts."""
