"""GGUF files: read by transformers' own reader, and refused where llama.cpp would compute another function."""

from pathlib import Path
from typing import Any

import pytest
import torch

from poise.errors import ModelError

pytest.importorskip("gguf")

from poise.publish.gguf.families import arranged, family_of, restored, rotation_factors
from poise.publish.gguf.read import read_stops, read_tokenizer, read_weights
from poise.publish.gguf.vocabulary import LLAMA3, QWEN2, missing_merges, vocabulary
from poise.publish.gguf.write import refuse_unwritable, write_gguf

IDS = torch.arange(5, 45)[None]


@pytest.fixture(scope="module")
def tokenizer(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tiny.make_tokenizer(tmp_path_factory.mktemp("tokenizer"), eos="<|endoftext|>", pad="<|pad|>")
    found: Any = AutoTokenizer.from_pretrained(folder)
    found.chat_template = "{{ messages[0]['content'] }}"
    return found


def write(model: Any, tokenizer: Any, file: Path) -> None:
    refuse_unwritable(model.config, tokenizer)
    write_gguf(model, tokenizer, (2, 0), file, "gguf-f16", "it")


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(IDS).logits


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_another_reader_finds_the_same_model(families: Any, tokenizer: Any, tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    model = families.make(name, len(tokenizer), **({"attention_bias": False} if name == "llama" else {}))
    write(model, tokenizer, tmp_path / "it.gguf")
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="it.gguf")
    assert (logits(again) - logits(model)).abs().max() < 0.01 * logits(model).abs().max()


@pytest.mark.parametrize(
    "name",
    ["llama", "llama with scaled positions", "llama with linear positions", "mistral", "qwen2", "qwen3", "gemma",
     "gemma2", "gemma3_text"],
)  # fmt: skip
def test_what_is_read_back_is_the_model_in_16_bits(families: Any, tokenizer: Any, tmp_path: Path, name: str) -> None:
    model = families.make(name, len(tokenizer))
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    write(model, tokenizer, tmp_path / "it.gguf")
    for weight in model.state_dict().values():
        weight.zero_()
    read_weights(model, tmp_path / "it.gguf")
    for key, weight in model.state_dict().items():
        assert torch.allclose(weight, before[key].half().float() if weight.ndim > 1 else before[key], atol=1e-6), key
    assert read_stops(tmp_path / "it.gguf") == (2, 0)
    assert read_tokenizer(tokenizer, tmp_path / "it.gguf").chat_template == tokenizer.chat_template


def test_queries_and_keys_are_put_in_neighbouring_order(families: Any) -> None:
    config = families.make("mistral", 16).config  # heads of 16: 0, 8, 1, 9, …
    rows = torch.arange(64.0)[:, None]
    family = family_of(config)
    turned = arranged(family, config, "model.layers.0.self_attn.q_proj.weight", rows)[:, 0].tolist()
    assert turned[:6] == [0, 8, 1, 9, 2, 10]
    assert turned[16:20] == [16, 24, 17, 25]
    assert (
        restored(family, config, "x.q_proj.weight", torch.tensor(turned)[:, None])[:, 0].tolist() == rows[:, 0].tolist()
    )


def test_scaled_positions_are_what_transformers_divides_frequencies_by(families: Any) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = families.make("llama with scaled positions", 16).config
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 10000.0 ** -(torch.arange(0, 16, 2) / 16)
    factors = rotation_factors(config)
    assert factors is not None
    assert torch.allclose(factors, plain / scaled, atol=1e-5)
    assert 1 in factors and 8 in factors  # some turn as they did, some eight times slower


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("llama", {"hidden_act": "gelu"}, "its feed-forward layers use gelu"),
        ("qwen2", {"use_sliding_window": True}, "attends within a sliding window"),
        ("qwen2", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "scaled by yarn"),
        ("gemma2", {"query_pre_attn_scalar": 32}, "queries are scaled by 32, and llama.cpp scales them by 16"),
        ("gemma3_text", {"layer_types": ["full_attention"] * 6}, "not each 6th layer alone attends to everything"),
    ],
)
def test_another_function_is_refused(families: Any, name: str, changes: dict[str, Any], why: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(name, **(families.SIZES | families.CONFIGS[name] | changes))
    with pytest.raises(ModelError, match=rf"{why}(.|\n)*convert_hf_to_gguf"):
        family_of(config)


def test_another_architecture_points_to_llama_cpp(tokenizer: Any) -> None:
    from transformers import GPT2Config

    with pytest.raises(ModelError, match=r"no GGUF of a gpt2 model(.|\n)*convert_hf_to_gguf\.py"):
        refuse_unwritable(GPT2Config(), tokenizer)


def test_weights_beyond_16_bits_are_refused(families: Any, tokenizer: Any, tmp_path: Path) -> None:
    model = families.make("qwen2", len(tokenizer))
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e5
    with pytest.raises(ModelError, match="holds weights that 16 bits of GGUF cannot"):
        write(model, tokenizer, tmp_path / "it.gguf")


def cutting(*steps: Any, ignore_merges: bool = False) -> Any:
    """Return a byte-level tokenizer that cuts text so."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: index for index, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    made = Tokenizer(models.BPE(letters, [], ignore_merges=ignore_merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    return PreTrainedTokenizerFast(tokenizer_object=made)


def test_how_text_is_cut_has_llama_cpps_name() -> None:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Split, Whitespace

    whole = ByteLevel(add_prefix_space=False)
    bare = ByteLevel(add_prefix_space=False, use_regex=False)
    found = {
        "gpt-2": cutting(whole),
        "smollm": cutting(Digits(individual_digits=True), whole),
        "qwen2": cutting(Split(Regex(QWEN2), "isolated"), bare),
        "llama-bpe": cutting(Split(Regex(LLAMA3), "isolated"), bare, ignore_merges=True),
        "dbrx": cutting(Split(Regex(LLAMA3), "isolated"), bare),
    }
    assert {name: vocabulary(each, 256).pre for name, each in found.items()} == {name: name for name in found}
    for unknown in (cutting(Whitespace(), whole), cutting(Split(Regex("a"), "isolated"), bare),
                    cutting(ByteLevel(add_prefix_space=True)), cutting(Digits(), whole)):  # fmt: skip
        with pytest.raises(ModelError, match=r"cannot put this tokenizer into a GGUF(.|\n)*convert_hf_to_gguf"):
            vocabulary(unknown, 256)


def test_pieces_are_scored_in_the_order_in_which_they_are_joined(families: Any, tmp_path: Path) -> None:
    made = families.sentencepiece_like(tmp_path, adds_space=True)
    found = vocabulary(made, len(made) + 2)
    scores = dict(zip(found.tokens, found.scores or [], strict=True))
    ranked = sorted(families.PIECES, key=lambda piece: -scores[piece])
    assert ranked == list(families.PIECES)
    assert scores["ap"] == 0
    assert scores["<end>"] < -1e6  # which no merge makes
    assert (found.model, found.adds_space) == ("llama", True)
    kinds = dict(zip(found.tokens, found.kinds, strict=True))
    assert [kinds[token] for token in ("<unk>", "<s>", "<end>", "<0x41>", "apple")] == [2, 3, 3, 6, 1]
    assert found.tokens[-2:] == [f"[PAD{len(made)}]", f"[PAD{len(made) + 1}]"]
    assert found.kinds[-2:] == [5, 5]
    assert vocabulary(families.sentencepiece_like(tmp_path, adds_space=False), 300).adds_space is False


def test_merges_that_llama_cpp_would_make_and_the_tokenizer_does_not_are_counted(
    families: Any, tokenizer: Any, tmp_path: Path
) -> None:
    assert missing_merges(families.sentencepiece_like(tmp_path, adds_space=True)) == 0
    assert missing_merges(families.sentencepiece_like(tmp_path, adds_space=True, without=("▁", "apple"))) == 1
    assert missing_merges(tokenizer) == 0  # byte-level: merges are all there is


def test_more_tokens_than_embeddings_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ModelError, match=r"the tokenizer has \d+ tokens and the model embeddings for 9"):
        vocabulary(tokenizer, 9)
