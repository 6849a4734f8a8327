"""Two dates of a place compared: what has become what, where, how much of it, and how sure that is."""
