"""Methods of com.atproto.temp."""
