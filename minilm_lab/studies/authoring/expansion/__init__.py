"""A teacher writes the answers that nobody wrote, for products that there are (Self-Instruct, arXiv 2212.10560, grounded)."""
