"""Which images are meant: files, folders, patterns, addresses, footprint indices, STAC items and catalogues."""
