"""Zero-shot probes: what a body's sentence embeddings know, with no fine-tuning."""
