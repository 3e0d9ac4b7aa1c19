"""A Transformer as text encoder: texts, or pairs of texts, to pooled vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.models.families import positions_of
from minilm_lab.models.pooling import Pooling, read_pooling

#: A text, or (text, second text or None).
Text = str | tuple[str, str | None]


class Encoder:
    """Vectors of texts. The model is read where it is, in eval mode and without gradients, and left as it was: every
    module in its mode, no random number drawn."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        pooling: str | Pooling = "mean",
        layer: int = -1,
        length: int = 128,
        batch_size: int = 128,
    ) -> None:
        """
        model: a body, or a model with a head, whose body is read.
        pooling: a name of `pooling.MODES`, or what `read_pooling` says of a folder.
        layer: whose hidden states are pooled: 0 = embeddings, −1 = the last layer's, as in the library's hidden_states.
        length: tokens of a text; longer ones are cut, of a pair the longer text first.
        batch_size: texts a forward.

        LabError for a layer that the model does not have.
        """
        self.model, self.tokenizer = model, tokenizer
        body: Any = model.base_model
        self.body = body
        self.pooling = Pooling((pooling,)) if isinstance(pooling, str) else pooling
        self.layer, self.length, self.batch_size = layer, length, batch_size
        layers = int(body.config.num_hidden_layers)
        if not -layers - 1 <= layer <= layers:
            raise LabError(
                f"layer={layer}: the model has {layers} layers; give 0 (embeddings) to {layers}, or −1 (the last) to "
                f"{-layers - 1}"
            )

    @classmethod
    def load(
        cls,
        where: str,
        revision: str | None = None,
        *,
        pooling: str | None = None,
        layer: int = -1,
        length: int | None = None,
        batch_size: int = 128,
    ) -> Encoder:
        """Load a folder or a model of the hub, in float32.

        Without `pooling` and `length` those of the folder's modules.json count, else the mean over as many tokens as
        the model takes. LabError if it cannot be read.
        """
        config = sources.load_config(where, revision, "source")
        tokenizer = sources.load_tokenizer(where, revision, "source")
        found = (None if pooling else read_pooling(where, revision)) or Pooling((pooling or "mean",))
        longest = min(positions_of(config), int(tokenizer.model_max_length))
        return cls(
            sources.load_body(where, revision, "source").eval(),
            tokenizer,
            pooling=found,
            layer=layer,
            length=min(length or found.length or longest, longest),
            batch_size=batch_size,
        )

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.pooling.width(int(self.body.config.hidden_size))

    def __call__(self, texts: Sequence[Text]) -> Tensor:
        """(texts, width) float32 on the CPU, one row a text or pair, in their order; all are texts, or all pairs."""
        vectors = torch.empty(len(texts), self.width)
        with evaluating(self.model):
            rows = token_batches(self.tokenizer, texts, self.length, self.batch_size, self.pooling.prompt)
            for chosen, batch in rows:
                states = self._states({name: tensor.to(self.body.device) for name, tensor in batch.items()})
                mask = self.pooling.mask(batch["attention_mask"], self.tokenizer)
                vectors[chosen] = self.pooling(states, mask.to(states.device)).cpu()
        return vectors

    def _states(self, batch: dict[str, Tensor]) -> Tensor:
        """(texts, tokens, hidden size) of the layer that is read."""
        last = self.layer in (-1, int(self.body.config.num_hidden_layers))
        answer = self.body(**model_inputs(self.body.config, batch), output_hidden_states=not last)
        states: Tensor = answer.last_hidden_state if last else answer.hidden_states[self.layer]
        return states


def token_batches(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    length: int,
    batch_size: int,
    prompt: str = "",
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """(numbers of the texts, their batch), longest texts first, so that a batch too big for the memory fails at once.

    A batch: input_ids, attention_mask and, where the tokenizer makes them, token_type_ids; int64 (texts, tokens),
    padded on the right.
    """
    rows = _tokenise(tokenizer, texts, length, prompt)
    lengths = np.asarray([len(ids) for ids in rows["input_ids"]], dtype=np.int64)
    pad = {"input_ids": tokenizer.pad_token_id or 0}
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        mask = np.arange(lengths[chosen[0]]) < lengths[chosen][:, None]
        batch = {"attention_mask": torch.from_numpy(mask.astype(np.int64))}
        for name, cells in rows.items():
            padded = np.full(mask.shape, pad.get(name, 0), dtype=np.int64)
            padded[mask] = np.concatenate([cells[number] for number in chosen])
            batch[name] = torch.from_numpy(padded)
        yield torch.from_numpy(chosen), batch


def _tokenise(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], length: int, prompt: str
) -> dict[str, list[list[int]]]:
    pairs = [(text, None) if isinstance(text, str) else text for text in texts]
    second = [pair for _, pair in pairs if pair is not None]
    if len(second) not in (0, len(pairs)):
        raise ValueError("all are texts, or all are pairs")
    if not pairs:
        return {"input_ids": []}
    # One call: fast tokenizers spread a list over threads.
    encoded = tokenizer(
        [prompt + text for text, _ in pairs],
        second or None,
        truncation="longest_first",
        max_length=length,
        padding=False,
        return_attention_mask=False,
        verbose=False,
    )
    return {name: encoded[name] for name in ("input_ids", "token_type_ids") if name in encoded}


def model_inputs(config: PretrainedConfig, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a batch that goes into a model: segments only where it has several."""
    names = ["input_ids", "attention_mask"]
    if getattr(config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    return {name: batch[name] for name in names if name in batch}


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
