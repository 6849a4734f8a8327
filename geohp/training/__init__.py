"""Training on frozen features: the fit, the loop, checkpoints, health, and what a run leaves."""
