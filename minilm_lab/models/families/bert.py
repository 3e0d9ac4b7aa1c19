"""BERT and the models that share its layers: RoBERTa, XLM-R, ELECTRA, DistilBERT."""

from __future__ import annotations

from minilm_lab.models.families.layout import Family

BERT = Family("encoder.layer", "attention.self", ("query", "key", "value"), "attention.output.dense")
ELECTRA = Family(
    "encoder.layer",
    "attention.self",
    ("query", "key", "value"),
    "attention.output.dense",
    embeddings=("embeddings", "embeddings_project"),
)
DISTILBERT = Family(
    "transformer.layer",
    "attention",
    ("q_lin", "k_lin", "v_lin"),
    "attention.out_lin",
    ffn="hidden_dim",
    dropout="dropout",
)
