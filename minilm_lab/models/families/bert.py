"""BERT and the models that share its layers: RoBERTa, XLM-R, ELECTRA, DistilBERT."""

from __future__ import annotations

from dataclasses import replace

from minilm_lab.models.families.layout import Family

BERT = Family(
    layers="encoder.layer",
    attention="attention.self",
    maps=("query", "key", "value"),
    output="attention.output.dense",
    masked_lm_head=("cls",),
)
ROBERTA = replace(BERT, positions_after_padding=True, masked_lm_head=("lm_head",))
ELECTRA = replace(
    BERT,
    embeddings=("embeddings", "embeddings_project"),
    embedding_size="embedding_size",
    masked_lm_head=("generator_predictions", "generator_lm_head"),
)
DISTILBERT = Family(
    layers="transformer.layer",
    attention="attention",
    maps=("q_lin", "k_lin", "v_lin"),
    output="attention.out_lin",
    ffn="hidden_dim",
    dropout="dropout",
)
