"""Methods of com.atproto.lexicon."""
