"""GGUF files run by llama.cpp itself; needs llama-cpp-python, which is built from source, so no other test does."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from poise.evaluate.questions import Question
from poise.examples import Message
from poise.publish.gguf.write import write_gguf
from poise.publish.quantize import TOLERANCES, quantize
from poise.publish.sides import InLlamaCpp, InTransformers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"),
]
TEXTS = (
    "Please say apple and bread", "  two  spaces\tand\ta tab", "line\n\n\nline\r\n", "3 33 333 3333 1234567",
    "I've, WE'LL; it's!", "naïve café – „quoted“", "日本語とかな", "🙂🙃 family: 👨‍👩‍👧", "x=[i**2 for i in range(10)]",
    "a", " ", "user\nassistant\n",
)  # fmt: skip


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def run(request: pytest.FixtureRequest, tiny: Any, families: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned to repeat words."""
    from transformers import AutoTokenizer

    from poise.recipe import load_recipe
    from poise.workflow import train_and_report

    place = tmp_path_factory.mktemp(request.param)
    tiny.make_tokenizer(place / "base", eos="<|endoftext|>", pad="<|pad|>")
    families.make(
        request.param, len(AutoTokenizer.from_pretrained(place / "base")), initializer_range=0.02
    ).save_pretrained(place / "base")
    tiny.write_rows(place / "chats.jsonl", tiny.copy_rows())
    keys = {"model_name_or_path": place / "base", "dataset_name": place / "chats.jsonl", "output_dir": place / "run"}
    short = {"max_steps": 400, "learning_rate": 3e-3, "question_count": 20, "max_new_tokens": 8}
    train_and_report(load_recipe("sft", None, tiny.settings(**keys, **short)))
    return place / "run"


@pytest.mark.parametrize("kind", ["gguf-f16", "gguf-q8_0", "gguf-q4_0"])
def test_llama_cpp_answers_as_transformers_does(run: Path, tmp_path: Path, kind: str) -> None:
    made = quantize(run, kind, tmp_path / "out")
    assert made["rehearsed_by"].startswith("llama.cpp in llama-cpp-python")
    assert made["prompts"] == made["same_templates"] == 20
    assert made["stop_tokens"][0] == made["stop_tokens"][1] == ["<|im_end|>", "<|endoftext|>"]
    assert made["stop_rate"] == (1.0, 1.0)
    assert made["agreement"] >= TOLERANCES[kind].agreement
    if kind == "gguf-f16":
        assert made["same_answers"] == 20
        assert made["agreement"] == 1.0
    assert len({answer["before"] for answer in made["answers"]}) >= 10  # it says different things


def test_a_base_without_a_template_continues_texts(tiny: Any, tmp_path: Path) -> None:
    tiny.make_base(tmp_path / "base")
    made = quantize(tmp_path / "base", "gguf-f16", tmp_path / "out", least_agreement=0.9)
    assert made["prompts"] == made["same_templates"] == 4
    assert made["rehearsed_by"].startswith("llama.cpp")


@pytest.mark.parametrize(
    "name",
    ["llama", "llama with scaled positions", "llama with linear positions", "mistral", "qwen2", "qwen3", "gemma",
     "gemma2", "gemma3_text"],
)  # fmt: skip
def test_every_family_computes_what_transformers_does(families: Any, tiny: Any, tmp_path: Path, name: str) -> None:
    from transformers import AutoTokenizer

    tiny.make_tokenizer(tmp_path, eos="<|endoftext|>", pad="<|pad|>")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    model = families.make(name, len(tokenizer))
    write_gguf(model, tokenizer, (2, 0), tmp_path / "it.gguf", "gguf-f16", name)
    ids = torch.arange(5, 105).tolist()
    here = InTransformers(model, tokenizer, (2,), (2,)).read(ids)
    there = InLlamaCpp(tmp_path / "it.gguf", 128).read(ids)
    assert (here.likeliest == there.likeliest).float().mean() >= 0.97  # weights as random as these are near ties
    assert (here.logps - there.logps).abs().mean() < 0.02 * here.logps.abs().mean()


@pytest.mark.parametrize("kind", ["gpt-2", "smollm", "qwen2", "llama-bpe", "dbrx", "with a space", "without"])
def test_llama_cpp_cuts_text_as_the_tokenizer_does(families: Any, tiny: Any, tmp_path: Path, kind: str) -> None:
    tokenizer = _tokenizer(families, tiny, tmp_path, kind)
    model = families.make("llama", len(tokenizer))
    write_gguf(model, tokenizer, (2, 0), tmp_path / "it.gguf", "gguf-f16", kind)
    there = InLlamaCpp(tmp_path / "it.gguf", 64)
    here = InTransformers(model, tokenizer, (2,), (2,))
    for text in TEXTS:
        asked = Question("1", "q", (Message("user", text), Message("assistant", text), Message("user", "apple")))
        assert there.prompt(asked) == here.prompt(asked), text


def _tokenizer(families: Any, tiny: Any, folder: Path, kind: str) -> Any:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split
    from transformers import AutoTokenizer

    from poise.publish.gguf.vocabulary import LLAMA3, QWEN2

    if kind in ("with a space", "without"):
        return families.sentencepiece_like(folder, adds_space=kind == "with a space")
    tiny.make_tokenizer(folder, eos="<|endoftext|>", pad="<|pad|>")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    whole = ByteLevel(add_prefix_space=False)
    bare = ByteLevel(add_prefix_space=False, use_regex=False)
    ways = {
        "gpt-2": [whole],
        "smollm": [Digits(individual_digits=True), whole],
        "qwen2": [Split(Regex(QWEN2), "isolated"), bare],
        "llama-bpe": [Split(Regex(LLAMA3), "isolated"), bare],
        "dbrx": [Split(Regex(LLAMA3), "isolated"), bare],
    }
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(ways[kind])
    tokenizer.backend_tokenizer.model.ignore_merges = kind == "llama-bpe"
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer
