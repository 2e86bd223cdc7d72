"""Feed skeletons: the order of posts. One file an algorithm."""
