"""Answer questions in batches and one by one: are the tokens the same, and how much faster is it?

    python benchmarks/bench_generate.py                     256 prompts of 4 to 60 words, 32 tokens each, one thread
    python benchmarks/bench_generate.py --prompts 32 --out x.json

The model is an untrained Llama of four layers and about 4 million parameters in float32, of wide weights, so that its
answers differ. Both ways are timed in one process, one after the other, wall and CPU; the first batch is warm-up.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from poise.batch.render import Renderer
from poise.batch.tokens import prepare_tokenizer
from poise.evaluate.generate import answer
from poise.evaluate.questions import Question
from poise.examples import Message

WORDS = 4000


def make_model() -> tuple[Any, Renderer]:
    """Build a model and a tokenizer of whole words in memory."""
    vocabulary = {
        word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *(f"w{n}" for n in range(WORDS))])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval(), Renderer(prepare_tokenizer(wrapped, "zephyr"))


def make_questions(count: int) -> list[Question]:
    """Ask in words of all lengths, in no order."""
    lengths = [4 + n * 37 % 57 for n in range(count)]
    texts = [" ".join(f"w{(n * 31 + k * 7) % WORDS}" for k in range(length)) for n, length in enumerate(lengths)]
    return [Question(str(n), "s", (Message("user", text),)) for n, text in enumerate(texts)]


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what was made, and the wall and CPU seconds it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    return made, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, renderer = make_model()
    questions = make_questions(options.prompts)

    def run(batch_size: int) -> Any:
        return answer(
            model, renderer, questions, max_new_tokens=options.tokens, label=f"by {batch_size}", batch_size=batch_size
        )

    answer(model, renderer, questions[:2], max_new_tokens=2, label="warm-up")
    alone, alone_wall, alone_cpu = timed(lambda: run(1))
    together, wall, cpu = timed(lambda: run(options.batch))
    same = sum(one == other for one, other in zip(alone, together, strict=True))
    found = {
        "prompts": options.prompts,
        "tokens": options.tokens,
        "batch": options.batch,
        "same_answers": same,
        "one_by_one_s": round(alone_wall, 2),
        "batched_s": round(wall, 2),
        "one_by_one_cpu_s": round(alone_cpu, 2),
        "batched_cpu_s": round(cpu, 2),
        "ratio_wall": round(alone_wall / wall, 2),
        "ratio_cpu": round(alone_cpu / cpu, 2),
    }
    print(json.dumps(found, indent=2))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
