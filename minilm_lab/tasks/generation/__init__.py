"""Text from text with an encoder: one Transformer over source and target, as in UniLM (Dong et al. 2019)."""
