"""Sequence models of sessions on items that are numbers, titles or both: GRU4Rec, SASRec, BERT4Rec, each in a few lines.

Sources: Hidasi et al., arXiv 1511.06939; Kang and McAuley, arXiv 1808.09781; Sun et al., arXiv 1904.06690. A session's events
come in with −1 for places that hold none, in front. What goes out at a place is compared with the items' own vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minilm_lab.errors import LabError, nearest

MODELS = ("gru4rec", "sasrec", "bert4rec")


class Items(nn.Module):
    """An item's vector: a row of a table, a linear map of its title's vector, or their sum."""

    def __init__(
        self, count: int, width: int, titles: Tensor | None, title_of: Tensor | None, ids: bool
    ) -> None:
        """titles: (titles, text width) frozen vectors, title_of: (items,) number of each item's; None = no text."""
        super().__init__()
        self.titles: Tensor
        self.title_of: Tensor
        self.known: Tensor
        if not ids and titles is None:
            raise ValueError("items are nothing: neither ids nor titles")
        self.count, self.width = count, width
        self.table = nn.Embedding(count, width) if ids else None
        if self.table is not None:
            nn.init.normal_(self.table.weight, std=width**-0.5)
        self.map: nn.Linear | None = None
        if titles is not None:
            assert title_of is not None
            self.register_buffer("titles", titles, persistent=False)
            self.register_buffer("title_of", title_of, persistent=False)
            self.map = nn.Linear(titles.shape[1], width)
        self.register_buffer("known", torch.ones(count, dtype=torch.bool), persistent=False)

    def forward(self, items: Tensor) -> Tensor:
        """(…,) item numbers → (…, width)."""
        vectors = torch.zeros(*items.shape, self.width)
        if self.table is not None:
            # A row that nothing was learned for is drawn, which is worse than nothing: it counts as zero.
            rows = self.table(items)
            vectors = vectors + (rows if self.training else rows * self.known[items].unsqueeze(-1))
        if self.map is not None:
            vectors = vectors + self.map(self.titles[self.title_of[items]].to(vectors.dtype))
        return vectors


class Sequence(nn.Module):
    """(sessions, places) items → (sessions, places, width): at a place, what the next item should be like."""

    def __init__(
        self,
        items: Items,
        model: str,
        *,
        length: int,
        blocks: int = 2,
        heads: int = 2,
        dropout: float = 0.1,
        causal: bool = True,
    ) -> None:
        """length: most places. causal: of sasrec; False is the released benchmark's fault, for tests and its table.

        LabError for a model that is none, heads that do not divide the width.
        """
        super().__init__()
        if model not in MODELS:
            raise LabError(f"model={model}: choose one of {', '.join(MODELS)}.{nearest(model, MODELS)}")
        if items.width % heads:
            raise LabError(f"width={items.width} must be a multiple of heads={heads}.")
        self.items, self.model, self.causal = items, model, causal and model == "sasrec"
        self.heads = heads
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(items.width)
        if model == "gru4rec":
            self.gru = nn.GRU(items.width, items.width, num_layers=blocks, batch_first=True)
        else:
            self.places = nn.Embedding(length + 1, items.width)
            nn.init.normal_(self.places.weight, std=0.02)
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    items.width, heads, 4 * items.width, dropout, "gelu", batch_first=True, norm_first=True
                )
                for _ in range(blocks)
            )
        # Of bert4rec: what stands where the item is to be foretold.
        self.mask = nn.Parameter(torch.randn(items.width) * 0.02) if model == "bert4rec" else None

    def forward(
        self, history: Tensor, hidden: Tensor | None = None, blocks: list[int] | None = None
    ) -> Tensor:
        """history: int64 (sessions, places), −1 = none, in front. hidden: bool of the same shape, places shown as [MASK].

        blocks: numbers of the blocks to run, None = all: an early exit is [0, 1, …], skipping leaves some out.
        """
        there = history >= 0
        states = self.items(history.clamp(min=0)) * there.unsqueeze(-1)
        if hidden is not None:
            assert self.mask is not None
            states = torch.where(hidden.unsqueeze(-1), self.mask, states)
        if self.model == "gru4rec":
            out: Tensor = self.gru(self.drop(states))[0]
            return self.norm(out)
        # Places count from the end, so that a short history stands where the end of a long one does.
        count = history.shape[1]
        states = self.drop(states + self.places(torch.arange(count).flip(0)))
        future = torch.ones(count, count, dtype=torch.bool).triu(1) if self.causal else None
        # A place that holds none may look at itself, or its softmax would be of nothing.
        empty = ~there[:, None, :] & ~torch.eye(count, dtype=torch.bool)
        barred = empty if future is None else empty | future
        barred = barred.repeat_interleave(self.heads, dim=0)
        for number, block in enumerate(self.blocks):
            if blocks is None or number in blocks:
                states = block(states, src_mask=barred)
        return self.norm(states)

    @torch.no_grad()
    def next(self, history: Tensor, blocks: list[int] | None = None) -> Tensor:
        """(sessions, places) → (sessions, width): compared with the items' vectors it gives the next item's scores."""
        if self.model == "bert4rec":  # the place behind the last is the one to fill
            history = torch.cat([history[:, 1:], history[:, -1:]], dim=1)
            hidden = torch.zeros_like(history, dtype=torch.bool)
            hidden[:, -1] = True
            return self(history, hidden, blocks=blocks)[:, -1]
        return self(history, blocks=blocks)[:, -1]


def loss(out: Tensor, target: Tensor, items: Items, negatives: Tensor, log_times: Tensor) -> Tensor:
    """Cross-entropy of the targets among themselves and drawn negatives, a scalar.

    out: (places, width). target: int64 (places,). negatives: int64 (drawn,), shared by all places.
    log_times: (drawn,) log of how often each negative is expected among the drawn ones; taken off, so that the sum over
    negatives stands for that over the whole catalogue (sampled softmax, Bengio and Senécal 2008). A negative that is the target of
    a place does not count there.
    """
    right = (out * items(target)).sum(dim=-1, keepdim=True)
    wrong = out @ items(negatives).T - log_times
    wrong = wrong.masked_fill(negatives == target.unsqueeze(-1), float("-inf"))
    return (torch.logsumexp(torch.cat([right, wrong], dim=-1), dim=-1) - right.squeeze(-1)).mean()
