"""Instructions: an answer to an instruction, by a causal model; loss on the answer and its end alone."""
