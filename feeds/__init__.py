"""Feed skeletons: which posts, in which order. One file an algorithm."""
