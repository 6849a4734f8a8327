"""Frozen features of training images: encoded once, stored where there is room, sampled."""
