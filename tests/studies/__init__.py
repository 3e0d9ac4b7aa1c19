"""Tests of the studies, each of which could be deleted with its folder."""
