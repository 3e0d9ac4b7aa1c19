"""Tests of minilm_lab.reports."""
