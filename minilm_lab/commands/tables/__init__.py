"""What `minilm-lab table` is made of: the table's file, its plan, its jobs, its cost and its rendering."""
