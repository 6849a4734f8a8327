"""A fully connected conditional random field that fits class maps to the outlines of an image."""
