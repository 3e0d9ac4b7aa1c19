"""MerRec, a marketplace's benchmark (Li et al., KDD 2025, arXiv 2402.14230): its files read in a stream, rows generated to
its statistics where the files are not at hand, and an encoder's vectors of titles as what is known of an item.
"""

GENERATED = "generated: measures the machinery and claims nothing about Mercari"
"""Stands on every number that was not measured on the released files."""
