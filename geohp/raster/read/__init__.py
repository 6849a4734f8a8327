"""Reading: scenes, label maps, bands, scaling, and which pixels are valid."""
