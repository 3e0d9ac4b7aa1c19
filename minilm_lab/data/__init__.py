"""Files and hubs -> splits; text -> token blocks; which sample comes when.

A corpus (`EmbeddedCorpus`, `HubCorpus`, `PathCorpus`) gives documents in a fixed order; `build` tokenises them
once into memory-mapped blocks; `loader` streams training batches whose order is a pure function of (seed, number
of samples seen); `held_out_batches` gives the blocks that are never trained on.

Importing this package loads neither torch nor datasets, so that configuration errors show at once.
"""

from minilm_lab.data.batches import Batch, held_out_batches, loader
from minilm_lab.data.blocks import Blocks
from minilm_lab.data.cache import build
from minilm_lab.data.corpus import Corpus, Packing

__all__ = ["Batch", "Blocks", "Corpus", "Packing", "build", "held_out_batches", "loader"]
