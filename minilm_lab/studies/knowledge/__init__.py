"""What a language model's output embeddings (keys) hold, and what its decoding reaches with them.

After "Correlation and Navigation in the Vocabulary Key Representation Space of Language Models" (Peng, An, Shang; ICLR
2025, arXiv 2410.02284): the next token is a softmax over products of a query, the encoded context, with fixed keys.
"""
