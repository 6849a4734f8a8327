"""Writing: outputs that can be interrupted, cloud-optimised GeoTIFFs, virtual mosaics."""
