"""Legends: names for the clusters of a label map, written by hand or found with a reference."""
