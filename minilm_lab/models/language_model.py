"""A causal model with its head and tokenizer: what it expects next, what it writes, how likely given words are.

Every method takes prompts as token ids and reads what several have in common once. What is forced on an answer stays
the ids that it was given as; text is never made of them and tokenised again, which could merge tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.errors import LabError
from minilm_lab.models.causal import end_tokens, load_causal, widen_head
from minilm_lab.models.contexts import Context, extend, read
from minilm_lab.models.decoding import Answer, Beams, Decoding, draws, likeliest, sampled

Ids = Sequence[int]


class LanguageModel:
    """Reads and writes with a causal model, in eval mode and without gradients, whatever mode the model is in."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int = 128
    ) -> None:
        """model: with its head, also one of peft; batch_size: rows read at a time."""
        self.model: PreTrainedModel = getattr(model, "get_base_model", lambda: model)()
        self.tokenizer, self.batch_size = tokenizer, batch_size
        #: Ids that end an answer. Never taken for padding, which many tokenizers write with the same token.
        self.ends = end_tokens(self.model, tokenizer)

    @classmethod
    def load(
        cls,
        where: str,
        revision: str | None = None,
        what: str = "source",
        *,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 128,
    ) -> LanguageModel:
        """Load a folder or a model of the hub. With a narrower dtype the head stays in float32, so no logits tie.

        LabError for encoders, for weights without a trained head, and for a tokenizer of another model.
        """
        model, tokenizer = load_causal(where, revision, what)
        model.eval().requires_grad_(False)
        if dtype != torch.float32:
            torch.nn.Module.to(model, dtype)
            widen_head(model)
        return cls(model, tokenizer, batch_size=batch_size)

    def ids(self, text: str, *, begins: bool = True) -> list[int]:
        """Tokens of a text; with the token that begins texts (of models that have one) where it `begins` one.

        Texts that are put together must be tokenised apart, the later ones with begins=False.
        """
        plain = list(self.tokenizer(text, add_special_tokens=False).input_ids)
        if not begins:
            return plain
        whole = list(self.tokenizer(text).input_ids)
        if not plain:
            begin = self.tokenizer.bos_token_id
            return [token for token in whole[:1] if token == begin or token not in self.ends]
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return whole[: start + len(plain)]  # what tokenizers add behind would end the text
        return whole

    def text(self, ids: Ids) -> str:
        """The text of tokens, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Tokens of a conversation by the model's chat template, the assistant's turn opened.

        LabError without a template, and if the template would put in a system message of its own.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise LabError("the tokenizer has no chat template: this model was not tuned on conversations")
        if messages[0]["role"] != "system":
            self._check_system(messages)
        return list(self.tokenizer(self._render(messages), add_special_tokens=False).input_ids)

    def _render(self, messages: Sequence[Mapping[str, str]]) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
            )
        )

    def _check_system(self, messages: Sequence[Mapping[str, str]]) -> None:
        plain = self._render(messages)
        try:
            ours = self._render([{"role": "system", "content": "\u2603"}, *messages])
        except Exception:  # a template that knows no system message puts none in
            return
        before = next((i for i, (a, b) in enumerate(zip(plain, ours, strict=False)) if a != b), len(plain))
        if not ours.endswith(plain[before:]):
            raise LabError(
                "the chat template puts in a system message of its own if none is given, which would be part of what "
                "is measured: begin with a message of the role system"
            )

    def next_logits(self, prompts: Sequence[Ids]) -> Tensor:
        """float32 (prompts, vocabulary): of the token after each prompt, by the model's own head."""
        logits: list[Tensor] = [torch.empty(0)] * len(prompts)
        with self._reading():
            for batch in self._batches(prompts):
                for row, values in zip(
                    batch, read(self.model, [prompts[i] for i in batch]).logits, strict=True
                ):
                    logits[row] = values
        return torch.stack(logits)

    def read(self, prompts: Sequence[Ids], after: Context | None = None) -> Context:
        """Read all prompts at once, each row behind the same row of `after` (which stays usable)."""
        self._check(prompts)
        with self._reading():
            if after is None:
                return read(self.model, prompts)
            room = max(map(len, prompts)) + 32
            return extend(self.model, prompts, after.take(range(len(after)), room))

    def generate(
        self,
        prompts: Sequence[Ids] | Context,
        decoding: Decoding | None = None,
        *,
        forced: Sequence[Ids] | None = None,
        until: Callable[[list[int]], bool] | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Answer]:
        """Continue each prompt, or each row of what `read` returned.

        forced: tokens with which each answer begins; until: whether an answer of these tokens (forced ones first) is
        complete, beside the model's own end tokens; rows: the numbers that sampling depends on, by default 0, 1, ….
        """
        decoding = decoding or Decoding()
        count = len(prompts)
        starts = [list(row) for row in forced] if forced is not None else [[] for _ in range(count)]
        numbers = list(rows) if rows is not None else list(range(count))
        if isinstance(prompts, Context):
            texts: Sequence[Ids] = starts
            batches: Iterator[list[int]] = iter([list(range(count))])
        else:
            texts = [[*prompt, *start] for prompt, start in zip(prompts, starts, strict=True)]
            batches = self._batches(texts, decoding.beams if decoding.method == "beam" else 1)
        answers: list[Answer | None] = [None] * count
        with self._reading():
            for batch in batches:
                if isinstance(prompts, Context):
                    context = prompts.take(batch, decoding.length + 32)
                    if forced is not None:
                        context = extend(self.model, texts, context)
                else:
                    context = read(self.model, [texts[i] for i in batch])
                write = self._beams if decoding.method == "beam" else self._write
                some = [starts[i] for i in batch], [numbers[i] for i in batch]
                for row, answer in zip(batch, write(context, decoding, *some, until), strict=True):
                    answers[row] = answer
        return [answer for answer in answers if answer is not None]

    def _write(
        self,
        context: Context,
        decoding: Decoding,
        starts: list[list[int]],
        numbers: list[int],
        until: Callable[[list[int]], bool] | None,
    ) -> list[Answer]:
        tokens, scores, ended = [list(s) for s in starts], [0.0] * len(starts), [False] * len(starts)
        uniform = None
        if decoding.method == "sample":
            uniform = torch.from_numpy(draws(decoding.seed, numbers, decoding.length)).to(self.model.device)
        live = torch.arange(len(starts), device=self.model.device)
        for step in range(decoding.length):
            logits = context.logits
            if uniform is None:
                new = likeliest(logits)
            else:
                new = sampled(logits, uniform[live, step], decoding.temperature, decoding.top_p)
            worth = logits.gather(1, new[:, None])[:, 0] - logits.logsumexp(dim=1)
            over = []
            for row, token, score in zip(live.tolist(), new.tolist(), worth.tolist(), strict=True):
                scores[row] += score
                if token in self.ends:
                    ended[row] = True
                else:
                    tokens[row].append(token)
                    ended[row] = until is not None and until(tokens[row])
                over.append(ended[row])
            if all(over) or step + 1 == decoding.length:
                break
            if any(over):
                order = context.drop(torch.tensor(over, device=live.device))
                live, new = live[order], new[order]
            context = extend(self.model, new[:, None].tolist(), context)
        return [Answer(*parts) for parts in zip(tokens, ended, scores, strict=True)]

    def _beams(
        self,
        context: Context,
        decoding: Decoding,
        starts: list[list[int]],
        numbers: list[int],
        until: Callable[[list[int]], bool] | None,
    ) -> list[Answer]:
        def finished(text: int, answer: list[int]) -> bool:
            return answer[-1] in self.ends or (until is not None and until([*starts[text], *answer]))

        search = Beams(len(starts), decoding, finished)
        while True:
            parents, new = search.step(context.logits)
            if not parents:
                break
            context = extend(self.model, new, context.take(parents))
        best = [done[0] for done in search.done]
        return [
            Answer([*start, *(tokens[:-1] if tokens[-1] in self.ends else tokens)], ended, score)
            for start, (_, tokens, score, ended) in zip(starts, best, strict=True)
        ]

    def likelihoods(
        self, prompts: Sequence[Ids] | Context, continuations: Sequence[Ids] | Sequence[Sequence[Ids]]
    ) -> list[Tensor]:
        """Log-probability of each continuation behind each prompt, or row of what `read` returned (which stays usable).

        float64 (continuations,) a prompt. continuations: token ids, the same for all prompts, or a list of them for each.
        What continuations begin with is read once. Add an end token where "and nothing more" is meant.
        """
        if not isinstance(prompts, Context):
            self._check(prompts)
        shared = all(isinstance(token, int) for ids in continuations for token in ids)
        given: list[list[tuple[int, ...]]] = [
            [tuple(ids) for ids in (continuations if shared else continuations[i])]  # type: ignore[arg-type]
            for i in range(len(prompts))
        ]
        if any(not ids for row in given for ids in row):
            raise LabError("a continuation needs at least one token")
        scores = [torch.zeros(len(row), dtype=torch.float64) for row in given]
        widest = max((len({ids[:-1] for ids in row}) for row in given), default=1)
        with self._reading():
            for batch in self._rows(prompts, widest):
                if isinstance(prompts, Context):
                    context = prompts.take(batch)
                else:
                    context = read(self.model, [prompts[i] for i in batch])
                nodes: dict[tuple[int, tuple[int, ...]], int] = {(i, ()): n for n, i in enumerate(batch)}
                while nodes:
                    context, nodes = self._descend(context, nodes, given, scores)
        return scores

    def _descend(
        self,
        context: Context,
        nodes: dict[tuple[int, tuple[int, ...]], int],
        given: list[list[tuple[int, ...]]],
        scores: list[Tensor],
    ) -> tuple[Context, dict[tuple[int, tuple[int, ...]], int]]:
        """One token further in the tries; nodes: (prompt, tokens so far) -> row of `context`."""
        depth = len(next(iter(nodes))[1])
        log_probabilities = context.logits.log_softmax(dim=1)
        further: dict[tuple[int, tuple[int, ...]], int] = {}
        asked = [
            (prompt, number, nodes[prompt, ids[:depth]], ids[depth])
            for prompt in dict.fromkeys(prompt for prompt, _ in nodes)
            for number, ids in enumerate(given[prompt])
            if len(ids) > depth
        ]
        values = log_probabilities[[row for _, _, row, _ in asked], [token for *_, token in asked]]
        for (prompt, number, _, _), value in zip(asked, values.tolist(), strict=True):
            scores[prompt][number] += value
        parents: list[int] = []
        tokens: list[list[int]] = []
        for prompt, number, row, token in asked:
            node = (prompt, given[prompt][number][: depth + 1])
            if len(given[prompt][number]) > depth + 1 and node not in further:
                further[node] = len(parents)
                parents.append(row)
                tokens.append([token])
        return (extend(self.model, tokens, context.take(parents)) if parents else context), further

    def _check(self, prompts: Sequence[Ids]) -> None:
        if any(len(prompt) == 0 for prompt in prompts):
            raise LabError("a prompt needs at least one token: this model has no token that begins a text")
        limit = getattr(self.model.config, "max_position_embeddings", None)
        longest = max(map(len, prompts), default=0)
        if limit and longest > limit:
            raise LabError(f"a prompt has {longest} tokens, and this model reads {limit}; shorten it")

    def _rows(self, prompts: Sequence[Ids] | Context, branches: int) -> Iterator[list[int]]:
        if not isinstance(prompts, Context):
            return self._batches(prompts, branches)
        size = max(1, self.batch_size // branches)
        rows = list(range(len(prompts)))
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _batches(self, prompts: Sequence[Ids], branches: int = 1) -> Iterator[list[int]]:
        """Numbers of the prompts, some at a time: neighbours share prefixes, or, where few do, have one length."""
        self._check(prompts)
        order = sorted(range(len(prompts)), key=lambda i: tuple(prompts[i]))
        shared = sum(1 for i, j in pairwise(order) if list(prompts[i][:8]) == list(prompts[j][:8]))
        if shared < len(prompts) // 4:
            order.sort(key=lambda i: len(prompts[i]))
        size = max(1, self.batch_size // branches)
        return (order[start : start + size] for start in range(0, len(order), size))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(training)
