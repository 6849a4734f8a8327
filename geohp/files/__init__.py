"""Outputs: may one be written here, would it destroy anything; files and folders that appear whole or not at all."""
