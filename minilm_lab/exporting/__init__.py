"""Out of the lab: a model as a folder that other programs load, and what can be said of it without loading it."""
