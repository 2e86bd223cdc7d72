"""Methods of com.atproto.identity."""
