"""minilm-lab: deep self-attention distillation (MiniLM, MiniLMv2) as a research lab."""

__version__ = "0.1.0"
