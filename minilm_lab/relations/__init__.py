"""Relations of a Transformer layer and the KL divergence between a teacher's and a student's.

The package imports torch alone (Triton only when its backend runs).
"""

from minilm_lab.relations.api import BACKENDS, relation_kl, relation_kls
from minilm_lab.relations.attention import attention_kl

__all__ = ["BACKENDS", "attention_kl", "relation_kl", "relation_kls"]
