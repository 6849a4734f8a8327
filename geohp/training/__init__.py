"""Training on frozen features: the loop, the cache of features, and the pictures of a run."""
