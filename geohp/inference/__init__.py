"""From scenes to label maps."""
