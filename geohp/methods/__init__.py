"""Methods that find land-cover classes without labels. Needs torch and timm only."""
