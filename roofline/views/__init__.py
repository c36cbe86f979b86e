"""A result as text, table, page or picture: one file an output."""
