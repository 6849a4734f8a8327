"""``python -m geohp``."""

from geohp.cli import main

main()
