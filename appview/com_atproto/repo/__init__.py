"""Methods of com.atproto.repo."""
