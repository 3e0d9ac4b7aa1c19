"""How small can an e-commerce author get: five tasks on products and reviews, for a causal model and its students.

After LLaMA-E (arXiv 2308.04913), whose code, seeds, templates and tables could not be read: every wording and metric here is
the lab's own.
"""
