"""The engine: windows read, scored, blended and refined into blocks of a map."""
