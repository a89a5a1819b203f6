"""A model of lm-evaluation-harness that computes what requests share once: few-shot context, question, then endings.

Tokens, truncation and results are those of the harness's own `HFLM`; only what is computed twice is left out.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
    resolve_max_length,
)

from poise import progress
from poise.batch.attention import use_attention
from poise.batch.kernels import choose_kernel
from poise.batch.score import Scorer, usual_attention, without_adapter
from poise.batch.tree import Asked, lay_out_together
from poise.chat_template import render
from poise.errors import DataError, ModelError
from poise.evaluate.generate import complete, seed_of
from poise.evaluate.journal import Journal, content_key

TOKENS = 8192
"""Tokens computed together: long enough that a few-shot context of 1,000 is computed again for an eighth of them."""
BATCH = 32
MAX_LENGTH, MAX_NEW_TOKENS = 2048, 256
"""HFLM's, where neither model nor tokenizer, and where no task says."""
TOLERANCE, LOW_PRECISION_TOLERANCE = 1e-3, 0.08
"""Nats per token by which sharing may differ from one sequence alone: in float32, in less."""
Keep = Callable[[int, float, bool], None]
TOLD = {"until", "max_gen_toks", "do_sample", "temperature"}


def _pass(index: int, logp: float, greedy: bool) -> None:
    """Do nothing with a score when it is there."""


class PrefixSharing(TemplateLM):
    """A causal language model in this process."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        tokens: int = TOKENS,
        batch_size: int = BATCH,
        max_length: int | None = None,
        seed: int = 0,
        journal: Journal | None = None,
        identity: Any = None,
    ) -> None:
        """Hold a model; what `journal` has of one with this `identity` is not computed again."""
        super().__init__()
        self.model, self.tokenizer, self.tokens, self.batch_size, self.seed = model, tokenizer, tokens, batch_size, seed
        config = without_adapter(model).config
        self.max_length: int = max_length or resolve_max_length(config, tokenizer, default=MAX_LENGTH)
        self.notes: list[str] = []
        """What was decided on the way."""
        self.computed = self.asked = 0
        """Tokens that were computed, and that the requests have."""
        self._shares: bool | None = None
        self._journal, self._identity = journal, [identity, self.max_length]
        self._device = model.device

    @property
    def eot_token_id(self) -> int:
        """The end of text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context: the tokenizer's bos, else its eos."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        """What the harness files its caches under."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Encode one text."""
        return self._encode([string], add_special_tokens)[string]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation by the tokenizer's template; the harness begins the answer where it is to go on."""
        render(  # within limits, which transformers has not
            self.tokenizer.get_chat_template(), chat_history, tokens=self.tokenizer.special_tokens_map
        )
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return (log-probability in nats, whether greedy decoding would say it) of each continuation."""
        keys = self._keys(requests)
        missing = [index for index, key in enumerate(keys) if self._kept(key) is None]
        found = self._score([requests[index] for index in missing], [keys[index] for index in missing])
        new = dict(zip(missing, found, strict=True))
        kept = (self._kept(key) or {} for key in keys)
        return [new[n] if n in new else (each["logp"], each["greedy"]) for n, each in enumerate(kept)]

    def _score(self, requests: Sequence[Any], keys: Sequence[str]) -> list[tuple[float, bool]]:
        pairs = [_without_trailing_space(*request.args) for request in requests]
        bare = self._encode({continuation for context, continuation in pairs if not context}, False)
        given = (text for context, continuation in pairs if context for text in (context, context + continuation))
        encoded = self._encode(set(given))
        encodings: list[tuple[Any, list[int], list[int]]] = []
        for request, (context, continuation) in zip(requests, pairs, strict=True):
            if context:
                before = encoded[context]
                after = encoded[context + continuation][len(before) :]
            else:
                before, after = self._after_nothing(bare[continuation])
            if not before or not after or len(after) > self.max_length:
                raise DataError(_unscorable(request, before, after, self.max_length))
            encodings.append((request.args, before, after))

        def keep(index: int, logp: float, greedy: bool) -> None:
            if self._journal is not None:
                self._journal.keep(keys[index], {"logp": logp, "greedy": greedy})

        return self._loglikelihood_tokens(encodings, keep=keep)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-probability of each whole text, in windows as long as the model reads."""
        windows: list[tuple[Any, list[int], list[int]]] = []
        counts: list[int] = []
        for request in requests:
            text = self.tok_encode(request.args[0])
            rolled = utils.get_rolling_token_windows(text, self.prefix_token_id, self.max_length, context_len=1)
            cut = [(None, *utils.make_disjoint_window(window)) for window in rolled]
            windows += cast("list[tuple[Any, list[int], list[int]]]", cut)
            counts.append(len(cut))
        found = iter(self._loglikelihood_tokens(windows))
        return [sum(next(found)[0] for _ in range(count)) for count in counts]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Continue each context greedily, or at its temperature, until one of its stop strings."""
        keys = self._keys(requests)
        texts = {n: kept["text"] for n, key in enumerate(keys) if (kept := self._kept(key)) is not None}
        encoded = self._encode({request.args[0] for request in requests})
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            if index not in texts:
                groups.setdefault(repr(request.args[1]), []).append(index)
        with (
            use_attention(without_adapter(self.model), usual_attention(without_adapter(self.model))),
            progress.stage("generate", len(requests)) as stage,
        ):
            for indices in groups.values():
                by_length = sorted(indices, key=lambda index: len(encoded[requests[index].args[0]]))
                for start in range(0, len(by_length), self.batch_size):
                    chosen = by_length[start : start + self.batch_size]
                    prompts = [encoded[requests[index].args[0]] for index in chosen]
                    seeds = [seed_of(self.seed, keys[index]) for index in chosen]
                    told = self._generate(prompts, requests[chosen[0]].args[1], seeds)
                    for index, text in zip(chosen, told, strict=True):
                        texts[index] = text
                        if self._journal is not None:
                            self._journal.keep(keys[index], {"text": text})
                    stage.advance(len(texts))
        return [texts[index] for index in range(len(requests))]

    def _keys(self, requests: Sequence[Any]) -> list[str]:
        """Name requests by model and content; one that is made several times, to draw again, by its number as well."""
        seen: Counter[str] = Counter()
        keys: list[str] = []
        for request in requests:
            key = content_key([self._identity, request.request_type, request.args])
            seen[key] += 1
            again = seen[key] if request.request_type == "generate_until" else 1
            keys.append(key if again == 1 else f"{key} {again}")
        return keys

    def _kept(self, key: str) -> dict[str, Any] | None:
        return None if self._journal is None else self._journal.get(key)

    def _after_nothing(self, continuation: list[int]) -> tuple[list[int], list[int]]:
        """Put bos before a text without context, unless it begins with it."""
        if continuation and continuation[0] == self.prefix_token_id:
            return continuation[:1], continuation[1:]
        return [self.prefix_token_id], continuation

    def _encode(self, texts: Iterable[str], add_special_tokens: bool | None = None) -> dict[str, list[int]]:
        """Encode texts together. Where nothing is said, special tokens are the tokenizer's, unless bos is written."""
        bos = self.tokenizer.decode(self.prefix_token_id)
        kinds: dict[bool | None, list[str]] = {}
        for text in texts:
            written = add_special_tokens is None and has_bos_prefix(text, bos)
            kinds.setdefault(False if written else add_special_tokens, []).append(text)
        encoded: dict[str, list[int]] = {}
        for adds, same in kinds.items():
            keywords = {} if adds is None else {"add_special_tokens": adds}
            encoded |= zip(same, self.tokenizer(same, verbose=False, **keywords)["input_ids"], strict=True)
        return encoded

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], keep: Keep = _pass, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        asked = [Asked((*before, *after)[-(self.max_length + 1) :], len(after)) for _, before, after in requests]
        self.asked += sum(len(each.ids) - 1 for each in asked)
        sums, greedy = torch.zeros(len(asked), dtype=torch.float64), torch.ones(len(asked), dtype=torch.bool)
        was_training = self.model.training
        self.model.eval()
        before = without_adapter(self.model).config._attn_implementation
        with progress.stage("score", len(asked)) as stage:
            done = 0
            for batch, values, likeliest in self._predictions(asked):
                sums.index_add_(0, batch.owners, values.double().cpu())
                greedy[batch.owners[~likeliest.cpu()]] = False
                self.computed += batch.tokens
                whole = batch.owners.unique().tolist()
                for index in whole:
                    keep(index, float(sums[index]), bool(greedy[index]))
                done += len(whole)
                stage.advance(done)
        without_adapter(self.model).set_attn_implementation(before)
        self.model.train(was_training)
        results = [(float(value), bool(each)) for value, each in zip(sums, greedy, strict=True)]
        for (said, _, _), result in zip(requests, results, strict=True):
            if said is not None:
                self.cache_hook.add_partial("loglikelihood", said, result)
        return results

    def _predictions(self, asked: Sequence[Asked]) -> Iterable[Any]:
        if self._shares is None and asked:
            self._shares = self._can_share(asked)
        scorer = self._scorer("shared" if self._shares else "alone")
        for batch in lay_out_together(asked, self.tokens if self._shares else 1):
            yield batch, *scorer.predictions(batch.to(self._device))

    def _scorer(self, way: Any) -> Scorer:
        scorer = Scorer(self.model, way=way)
        config = without_adapter(self.model).config
        scorer.kernel = choose_kernel(None, self._device, self.model.dtype, config)[0]
        return scorer.eval()

    def _can_share(self, asked: Sequence[Asked]) -> bool:
        """Score the first requests both ways; what cannot be shared is computed one sequence at a time, and noted."""
        few = sorted(asked[:4], key=lambda each: len(each.ids))[:2]
        try:
            scorer = self._scorer("shared")
            shared = [scorer.predictions(batch.to(self._device)) for batch in lay_out_together(few, self.tokens)]
        except ModelError as error:
            self.notes.append(f"each sequence is computed by itself: {str(error).splitlines()[0]}")
            return False
        values = torch.cat([values for values, _ in shared])
        scorer = self._scorer("alone")
        alone = torch.cat([scorer.predictions(batch.to(self._device))[0] for batch in lay_out_together(few, 1)])
        off = float((values - alone).abs().max())
        if off <= (TOLERANCE if self.model.dtype in (torch.float32, torch.float64) else LOW_PRECISION_TOLERANCE):
            return True
        self.notes.append(f"each sequence is computed by itself: shared, a token differed by {off:.2g} nats")
        return False

    @torch.no_grad()
    def _generate(self, prompts: Sequence[list[int]], settings: dict[str, Any], seeds: Sequence[int]) -> list[str]:
        given = dict(normalize_gen_kwargs(settings, MAX_NEW_TOKENS))
        if others := sorted(given.keys() - TOLD):
            raise DataError(
                f"a task generates with {', '.join(others)}, which is not done here\n"
                "    to do:  leave the task out, or write one with do_sample and temperature alone"
            )
        until = handle_stop_sequences(cast("list[str]", given["until"]), eos=self.tokenizer.decode(self.eot_token_id))
        longest = cast(int, given["max_gen_toks"])
        room = self.max_length - longest
        if room <= 0:
            raise DataError(
                f"a task asks for {longest} new tokens, the model reads {self.max_length}\n"
                "    to do:  raise --max-length, or leave the task out"
            )
        model = without_adapter(self.model)
        own = model.generation_config.eos_token_id
        stop_ids = own if isinstance(own, list) else [self.eot_token_id if own is None else own]
        completions = complete(
            self.model,
            [prompt[-room:] for prompt in prompts],
            max_new_tokens=longest,
            stop_ids=stop_ids,
            pad_id=self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.eot_token_id,
            temperature=cast(float, given.get("temperature", 1.0)) if given["do_sample"] else 0.0,
            seeds=seeds,
            stops=[_StopStrings(self.tokenizer, until, max(map(len, (prompt[-room:] for prompt in prompts))))],
        )
        decoded = (self.tokenizer.decode(each, skip_special_tokens=True) for each in completions)
        return [postprocess_generated_text(text, stop=until, think_end_token=None) for text in decoded]


class _StopStrings:
    """Ends a row once one of the strings stands in what it has said, in whatever tokens."""

    def __init__(self, tokenizer: Any, strings: Sequence[str], prompt_tokens: int) -> None:
        self._tokenizer, self._strings, self._prompt_tokens = (
            tokenizer,
            [each for each in strings if each],
            prompt_tokens,
        )
        self._tail = max((len(each.encode()) for each in self._strings), default=0) + 2
        """Tokens in which a string is looked for: each but a few holds a byte."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        tails = self._tokenizer.batch_decode(input_ids[:, self._prompt_tokens :][:, -self._tail :])
        ended = [any(string in tail for string in self._strings) for tail in tails]
        return torch.tensor(ended, device=input_ids.device)


def _without_trailing_space(context: str, continuation: str) -> tuple[str, str]:
    """Move spaces at the end of the context to the continuation, where tokenizers put them."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def _unscorable(request: Any, before: Sequence[int], after: Sequence[int], max_length: int) -> str:
    what = (
        f"has {len(after)} tokens, the model reads {max_length}" if len(after) > max_length
        else f"has no tokens of its own after {request.args[0][-20:]!r}" if before else "follows an empty context"
    )  # fmt: skip
    return f"an ending of {request.task_name} ({request.args[1][:60]!r}) {what}\n    to do:  leave the task out"
