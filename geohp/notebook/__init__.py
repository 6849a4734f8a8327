"""For notebooks: the accessor ``.geohp`` of xarray, its pictures and its maps."""
