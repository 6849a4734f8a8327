"""``python -m geohp``."""

from geohp.cli.app import main

main()
