"""Tests of the study of keys and navigation."""
