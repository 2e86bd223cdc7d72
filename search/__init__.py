"""The query language and the engines behind one interface."""
