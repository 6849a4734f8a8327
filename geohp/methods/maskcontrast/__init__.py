"""MaskContrast (arXiv 2102.06191): codes of one mask proposal drawn together, those of different ones pushed apart."""
