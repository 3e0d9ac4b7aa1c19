"""A model in; scores, rows and files out. Nothing here trains."""
