"""The data sets of the paper, from the files as their owners hand them out."""
