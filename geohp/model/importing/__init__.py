"""Files that other projects released, made into geohp's own."""
