"""Thin Hydra entry points: compose, call, record. No science here."""
