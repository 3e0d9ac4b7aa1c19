"""Tokens and money: an expansion ends before the request that could exceed either."""

from __future__ import annotations

from dataclasses import dataclass

from minilm_lab.errors import LabError
from minilm_lab.studies.authoring.expansion.teachers import Reply, Request


class Spent(Exception):
    """The next request could exceed the budget."""


@dataclass
class Budget:
    """What may be spent, and what was."""

    tokens: int | None = None
    """Of prompts and answers together; None = no limit."""
    money: float | None = None
    """In the currency of the prices; None = no limit."""
    price_in: float = 0.0
    """Of a million prompt tokens."""
    price_out: float = 0.0
    """Of a million answer tokens."""
    used_in: int = 0
    used_out: int = 0

    def __post_init__(self) -> None:
        for name in ("tokens", "money", "price_in", "price_out"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise LabError(f"budget.{name}={value} must be 0 or more")
        if self.money is not None and not (self.price_in or self.price_out):
            raise LabError(
                "budget.money is no limit without prices: give budget.price_in and budget.price_out"
            )

    @property
    def paid(self) -> float:
        """Money so far."""
        return (self.used_in * self.price_in + self.used_out * self.price_out) / 1e6

    def before(self, request: Request) -> None:
        """Raise Spent where the request could exceed what is left; it is counted at the most that it can be."""
        most_in = request.most_tokens() - request.max_tokens
        tokens = self.used_in + self.used_out + most_in + request.max_tokens
        money = self.paid + (most_in * self.price_in + request.max_tokens * self.price_out) / 1e6
        if self.tokens is not None and tokens > self.tokens:
            raise Spent(f"{self.used_in + self.used_out:,} of {self.tokens:,} tokens used")
        if self.money is not None and money > self.money:
            raise Spent(f"{self.paid:.4f} of {self.money} paid")

    def spend(self, reply: Reply) -> None:
        """Count a reply, whether it was of any use or not."""
        self.used_in += reply.tokens_in
        self.used_out += reply.tokens_out
