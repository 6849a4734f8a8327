"""What breaks geohp, tried: hostile files, faults, load, secrets, mutants; each a part with cases of its own."""
