"""Looking at what there is without changing it: rasters, maps, models, the installation, and caches."""
