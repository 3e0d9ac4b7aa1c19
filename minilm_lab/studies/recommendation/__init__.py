"""What the studies of recommenders share: tables of interactions and items, splits by date, metrics by full ranking.

Imports nothing of another study.
"""
