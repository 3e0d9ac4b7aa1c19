"""Downstream tasks: examples -> features -> predictions -> scores."""
