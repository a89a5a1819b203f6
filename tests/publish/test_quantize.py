"""Fewer bits: what is written is read back, does what the model does, and says how well."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from poise.cli import poise
from poise.commands.quantize import command as quantize_command
from poise.errors import DivergenceError, ModelError, RunError
from poise.examples import Conversation, Document, LabeledConversation, Message, PreferencePair, RankedAnswers
from poise.publish import quantize as quantizing
from poise.publish.material import as_one_sequence, run_of
from poise.publish.quantize import KINDS, TOLERANCES, quantize
from poise.publish.quantizers import group_of, refuse_uncalibrated
from poise.publish.rehearsal import check_rehearsal, read_rehearsal

HERE = [kind for kind in KINDS if kind != "gptq"]
BITS = {"gguf-f16": 16, "gguf-q8_0": 8.5, "gguf-q4_0": 4.5}
"""With the scale of every 32 weights."""


def installed(kind: str) -> bool:
    package = "gguf" if kind.startswith("gguf") else {"nf4": "bitsandbytes"}.get(kind, "torchao")
    return find_spec(package) is not None


@pytest.fixture(autouse=True)
def without_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizing, "llama_cpp_is_installed", lambda: False)  # test_llama_cpp.py has it


@pytest.mark.parametrize("kind", HERE)
def test_each_kind_does_what_the_model_does_within_its_tolerance(taught: Path, tmp_path: Path, kind: str) -> None:
    if not installed(kind):
        pytest.skip("its package is not installed")
    made = quantize(taught, kind, tmp_path / "out")
    assert made["prompts"] == made["same_templates"] == 20
    assert made["agreement"] >= TOLERANCES[kind].agreement
    assert made["stop_rate"] == (1.0, 1.0)
    assert made["stop_tokens"] == (["<|im_end|>", "<|endoftext|>"], ["<|im_end|>", "<|endoftext|>"])
    assert made["perplexity_over"].startswith("rows that the run trained on")
    found = check_rehearsal(tmp_path / "out")
    assert found is not None
    assert found.files.keys() >= {path.name for path in (tmp_path / "out").glob("*.gguf")}
    if kind != "gguf-f16":
        assert made["perplexity"][0] != made["perplexity"][1]  # fewer bits are another model
    if kind in BITS:
        check_bits(tmp_path / "out" / f"run-{kind.removeprefix('gguf-')}.gguf", BITS[kind])


def check_bits(file: Path, bits: float) -> None:
    from gguf import GGUFReader

    tensors = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    inside, embeddings = tensors["blk.0.ffn_up.weight"], tensors["token_embd.weight"]
    assert 8 * inside.n_bytes / inside.n_elements == bits
    assert 8 * embeddings.n_bytes / embeddings.n_elements == max(bits, 8.5)
    assert tensors["output_norm.weight"].data.dtype == "float32"


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantized_folder_is_a_model_that_poise_asks(taught: Path, tmp_path: Path, kind: str) -> None:
    if not installed(kind):
        pytest.skip("its package is not installed")
    from poise.answering import open_engine
    from poise.evaluate.answer import Sampling
    from poise.evaluate.questions import Question

    quantize(taught, kind, tmp_path / "out")
    engine = open_engine(str(tmp_path / "out"), tmp_path)
    question = Question("1", "q", (Message("user", "Say apple"),))
    answer = engine.answer([question], Sampling(8), "it", lambda question, answer: None)[0]
    assert answer.stopped
    assert len(engine.identity["sha256"]) == 64


def test_the_command_says_what_was_seen_and_its_tolerance_decides_the_exit_code(taught: Path, tmp_path: Path) -> None:
    if not installed("int4"):
        pytest.skip("torchao is not installed")
    out = tmp_path / "out"
    told = CliRunner().invoke(poise, ["quantize", str(taught), "--to", "int4", "--out", str(out), "--json"])
    assert json.loads(told.stdout)["within_tolerance"]
    assert "perplexity" in told.stderr
    with pytest.raises(RunError, match="is not empty"):
        quantize(taught, "int4", out)
    with pytest.raises(DivergenceError, match=r"out is kept.*perplexity grows .* at most -50\.0% is allowed"):
        quantize(taught, "int4", out, most_perplexity=-0.5, overwrite=True)
    found = read_rehearsal(out)
    assert found is not None
    assert found.tolerance.perplexity == -0.5
    with pytest.raises(DivergenceError, match="is outside of its tolerance"):
        check_rehearsal(out)


def test_what_cannot_be_quantized_is_refused_with_the_remedy(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        quantize(tmp_path / "none", "int8")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="gptq needs CUDA, and here is none"):
            quantize(taught, "gptq")
    adapter = tmp_path / "run" / "model"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "base", "peft_type": "LORA"}')
    with pytest.raises(ModelError, match=r"is an adapter(.|\n)*poise merge"):
        quantize(adapter, "int8")
    config = shutil.copytree(taught / "model", tmp_path / "quantized") / "config.json"
    written = json.loads(config.read_text())
    config.write_text(json.dumps(written | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(ModelError, match="is quantized already"):
        quantize(tmp_path / "quantized", "int8")
    monkeypatch.setattr("poise.publish.quantizers.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"int8 needs torchao(.|\n)*pip install 'poise\[quantize\]'"):
        quantize(taught, "int8")


def test_a_merged_folder_is_rehearsed_on_the_prompts_of_its_run(taught: Path, tmp_path: Path) -> None:
    (tmp_path / "merge.json").write_text(json.dumps({"adapter_name": str(taught / "model")}))
    assert run_of(tmp_path) == run_of(taught) == run_of(taught / "model") == taught


def test_a_model_without_a_run_and_layers_that_no_group_divides_are_told(taught: Path, tmp_path: Path) -> None:
    if not installed("int4"):
        pytest.skip("torchao is not installed")
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer: Any = AutoTokenizer.from_pretrained(taught / "model")
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 1,
                             "num_attention_heads": 4, "initializer_range": 0.3}  # fmt: skip
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    made = quantize(tmp_path / "model", "int4", tmp_path / "out", least_agreement=0.0, most_perplexity=10.0)
    assert made["prompts"] == 4
    assert made["perplexity_over"] == "the model's own answers"
    assert any("no run is known" in note for note in made["notes"])
    assert any(note.startswith("1 layers stay whole") for note in made["notes"])  # the one from 80


def test_gptq_takes_the_largest_group_that_divides_every_row_and_needs_rows_to_look_at(families: Any) -> None:
    wide = {"hidden_size": 128, "head_dim": 32}
    groups = {size: group_of(families.make("llama", 16, **wide, intermediate_size=size), "gptq") for size in (256, 192)}
    assert groups == {256: 128, 192: 64}
    with pytest.raises(
        ModelError, match=r"needs rows that 32 divides, and model\.layers\.0\.mlp\.down_proj has others"
    ):
        group_of(families.make("llama", 16, **wide, intermediate_size=80), "gptq")
    with pytest.raises(ModelError, match="none can be read"):
        refuse_uncalibrated("gptq", [])


def test_rows_are_read_as_the_better_answer_in_the_main_template() -> None:
    asked, good, bad = Message("user", "?"), Message("assistant", "good"), Message("assistant", "bad")
    better = Conversation((asked, good), trained="last")
    assert as_one_sequence(PreferencePair((asked,), (good,), (bad,), template="alpaca")) == better
    assert as_one_sequence(RankedAnswers((asked,), ((bad,), (good,)), (1, 0))) == better
    assert as_one_sequence(LabeledConversation((asked, good), True, template="alpaca")) == better
    assert as_one_sequence(Conversation((asked, good), template="alpaca")) == Conversation((asked, good))
    assert as_one_sequence(Document("text")) == Document("text")


def test_the_command_knows_every_kind() -> None:
    (to,) = [option for option in quantize_command.params if option.name == "to"]
    assert tuple(to.to_info_dict()["type"]["choices"]) == KINDS


def test_the_page_lists_every_kind_with_its_tolerance() -> None:
    page = (Path(__file__).parents[2] / "docs" / "quantizing.md").read_text()
    found = re.findall(r"^\| `([\w-]+)` \|.*\| ([\d.]+) % \| ([\d.]+) % \|$", page, re.MULTILINE)
    assert {kind: (float(agreement) / 100, float(growth) / 100) for kind, agreement, growth in found} == {
        kind: (allowed.agreement, allowed.perplexity) for kind, allowed in TOLERANCES.items()
    }
