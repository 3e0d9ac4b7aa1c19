"""Hugging Face models: where Q, K, V are, stopping at a layer, building a student, saving it."""
