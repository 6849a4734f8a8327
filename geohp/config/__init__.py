"""The experiment as typed, strict models, and the YAML files they are read from."""
