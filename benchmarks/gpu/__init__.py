"""HP on a GPU, measured: each part first held against the CPU, then timed against what the card can do at best."""
