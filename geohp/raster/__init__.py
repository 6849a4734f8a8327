"""Rasters: scenes read window by window, outputs written whole or not at all."""
