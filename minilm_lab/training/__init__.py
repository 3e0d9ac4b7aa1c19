"""LightningModules (student + frozen teacher; fine-tuner), their callbacks and settings."""
