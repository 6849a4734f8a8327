"""The blocks of a scene on the workers of a dask cluster."""
