from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from poise.batch.tokens import INLINE, OWN, prepare_tokenizer, render_text
from poise.errors import ModelError, RecipeError
from poise.examples import Message

Make = Callable[..., PreTrainedTokenizerFast]
SHIPPED = ("alpaca", "bagel-alpaca", "bagel-vicuna", "chatml", "instruct", "llama-2", "vicuna", "zephyr")
MINIMAL = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{{ eos_token }}{% endfor %}"


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "chatml"])
def test_shipped_templates_end_answers_in_the_eos_token(byte_tokenizer: Make, name: str) -> None:
    tokenizer = byte_tokenizer(eos="</s>", pad="<pad>")
    prepared = prepare_tokenizer(tokenizer, name)
    assert prepared.stop_ids == (tokenizer.convert_tokens_to_ids("</s>"),)
    assert prepared.added_tokens == ()
    assert prepared.template_name == name


def test_chatml_adds_its_two_tokens_and_stops_at_the_second(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer(eos="</s>", pad="<pad>")
    eos = tokenizer.eos_token_id
    prepared = prepare_tokenizer(tokenizer, "chatml")
    assert prepared.added_tokens == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.eos_token == "<|im_end|>"
    assert prepared.stop_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"), eos)


def test_chatml_uses_the_tokens_a_vocabulary_has(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer(eos="<|im_end|>", pad="<|endoftext|>", others=("<|im_start|>",))
    size = len(tokenizer)
    prepared = prepare_tokenizer(tokenizer, "chatml")
    assert prepared.added_tokens == ()
    assert prepared.stop_ids == (tokenizer.eos_token_id,)
    assert len(tokenizer) == size
    assert prepared.notes == ()


# Pad and eos ---------------------------------------------------------------------------------------------------------


def test_a_pad_that_is_the_eos_gives_way_to_another(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer(eos="</s>", pad="</s>")
    prepared = prepare_tokenizer(tokenizer, "zephyr")
    assert prepared.added_tokens == ("<|pad|>",)
    assert prepared.pad_id == tokenizer.pad_token_id == tokenizer.convert_tokens_to_ids("<|pad|>")
    assert prepared.pad_id not in prepared.stop_ids


def test_a_pad_of_its_own_is_kept(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer(eos="</s>", pad="[PAD]", others=("<|reserved_special_token_0|>",))
    prepared = prepare_tokenizer(tokenizer, "zephyr")
    assert prepared.pad_id == tokenizer.convert_tokens_to_ids("[PAD]")


@pytest.mark.parametrize(
    "idle", ["<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|reserved_special_token_0|>", "<unused7>"]
)
def test_an_idle_token_becomes_the_pad(byte_tokenizer: Make, idle: str) -> None:
    tokenizer = byte_tokenizer(eos="</s>", others=("<tool>", idle))
    prepared = prepare_tokenizer(tokenizer, "zephyr")
    assert prepared.pad_id == tokenizer.convert_tokens_to_ids(idle)
    assert prepared.added_tokens == ()


def test_the_old_eos_does_not_pad_once_it_stops(byte_tokenizer: Make) -> None:
    """Qwen 2.5 base: eos and pad are <|endoftext|>, answers end in <|im_end|>."""
    tokenizer = byte_tokenizer(eos="<|endoftext|>", pad="<|endoftext|>", others=("<|im_start|>", "<|im_end|>"))
    end_of_text = tokenizer.eos_token_id
    prepared = prepare_tokenizer(tokenizer, "chatml")
    assert prepared.stop_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"), end_of_text)
    assert prepared.pad_id not in prepared.stop_ids


def test_a_tokenizer_with_neither_eos_nor_pad_gets_both(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer(eos=None)
    prepared = prepare_tokenizer(tokenizer, "zephyr")
    assert prepared.added_tokens == ("<|endoftext|>", "<|pad|>")
    assert tokenizer.eos_token == "<|endoftext|>"


def test_a_missing_eos_is_found_in_the_vocabulary(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer(eos=None, others=("<eos>", "<pad>"))
    assert prepare_tokenizer(tokenizer, "zephyr").added_tokens == ()
    assert tokenizer.eos_token == "<eos>"


def test_the_recipe_chooses_the_eos(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer(eos="</s>", pad="<pad>", others=("<|im_end|>",))
    prepared = prepare_tokenizer(tokenizer, "zephyr", eos_token="<|im_end|>")
    assert prepared.stop_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    assert render_text(tokenizer, [Message("user", "hi")]) == "<|user|>\nhi<|im_end|>\n"


# Where the template comes from ---------------------------------------------------------------------------------------


def test_the_tokenizer_s_own_template_is_the_default(byte_tokenizer: Make) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = MINIMAL
    assert prepare_tokenizer(tokenizer, None).template_name == OWN


def test_without_a_template_zephyr_is_used_and_said(byte_tokenizer: Make) -> None:
    prepared = prepare_tokenizer(byte_tokenizer(), None)
    assert prepared.template_name == "zephyr"
    assert "no chat template" in prepared.notes[0]


def test_without_a_template_chatml_is_used_where_its_tokens_are(byte_tokenizer: Make) -> None:
    prepared = prepare_tokenizer(byte_tokenizer(others=("<|im_start|>", "<|im_end|>")), None)
    assert prepared.template_name == "chatml"


def test_a_template_can_be_a_file_or_inline(byte_tokenizer: Make, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(MINIMAL)
    from_file = prepare_tokenizer(byte_tokenizer(), str(file))
    inline = prepare_tokenizer(byte_tokenizer(), MINIMAL)
    assert (from_file.template_name, inline.template_name) == (str(file), INLINE)
    assert from_file.template_hash == inline.template_hash


def test_a_misspelled_name_gets_the_near_one(byte_tokenizer: Make) -> None:
    with pytest.raises(RecipeError, match="did you mean 'chatml'"):
        prepare_tokenizer(byte_tokenizer(), "chat-ml")


def test_a_missing_file_is_named(byte_tokenizer: Make) -> None:
    with pytest.raises(RecipeError, match=r"no file nowhere\.jinja"):
        prepare_tokenizer(byte_tokenizer(), "nowhere.jinja")


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{% for m in messages %}", "fails on one question and one answer"),
        ("{{ raise_exception('no') }}", "fails on one question and one answer: no"),
        ("{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}", "leaves out"),
        (MINIMAL + "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}", "prompts with '.*ASSISTANT:' but"),
    ],
)
def test_a_broken_template_stops_the_recipe(byte_tokenizer: Make, template: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        prepare_tokenizer(byte_tokenizer(), template)


def test_a_template_cannot_reach_out_of_its_sandbox(byte_tokenizer: Make) -> None:
    escape = "{{ messages.__class__.__mro__[1].__subclasses__() }}" + MINIMAL
    with pytest.raises(ModelError, match="the chat template was stopped: access to attribute"):
        prepare_tokenizer(byte_tokenizer(), escape)


# What is noted -------------------------------------------------------------------------------------------------------


def test_a_template_without_a_stop_token_is_noted(byte_tokenizer: Make) -> None:
    silent = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    prepared = prepare_tokenizer(byte_tokenizer(pad="<pad>"), silent)
    assert "the template writes no stop token after an answer: the last answer ends in </s>" in prepared.notes
    assert any("only the last answer" in note for note in prepared.notes)


def test_text_that_the_model_must_write_itself_is_noted(byte_tokenizer: Make) -> None:
    prepared = prepare_tokenizer(byte_tokenizer(pad="<pad>"), MINIMAL)
    assert prepared.notes == ("the generation prompt ends before 'assistant: ': the model learns to write that itself",)


def test_a_template_that_repeats_bos_is_noted(byte_tokenizer: Make) -> None:
    prepared = prepare_tokenizer(byte_tokenizer(bos="<s>", pad="<pad>"), MINIMAL.replace("{{ m", "{{ bos_token + m"))
    assert "the template writes <s> more than once in a conversation, at inference as in training" in prepared.notes


def test_shipped_templates_start_with_bos_where_the_tokenizer_does(byte_tokenizer: Make) -> None:
    prepared = prepare_tokenizer(byte_tokenizer(bos="<s>", adds_bos=True), "zephyr")
    assert render_text(prepared.tokenizer, [Message("user", "hi")]) == "<s><|user|>\nhi</s>\n"
    assert "the zephyr template starts with <s>, as this tokenizer does" in prepared.notes
    without = prepare_tokenizer(byte_tokenizer(bos="<s>", adds_bos=False), "zephyr")
    assert render_text(without.tokenizer, [Message("user", "hi")]) == "<|user|>\nhi</s>\n"


def test_a_saved_tokenizer_carries_all_of_it(byte_tokenizer: Make, tmp_path: Path) -> None:
    prepared = prepare_tokenizer(byte_tokenizer(eos="</s>", pad="</s>"), "chatml")
    prepared.tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.eos_token_id == prepared.stop_ids[0]
    assert loaded.pad_token_id == prepared.pad_id
    assert loaded.chat_template == prepared.tokenizer.chat_template
    assert prepare_tokenizer(loaded, None).added_tokens == ()


# Several templates ---------------------------------------------------------------------------------------------------


def test_all_templates_share_one_vocabulary_and_the_saved_tokenizer_stops_for_each(
    byte_tokenizer: Make, tmp_path: Path
) -> None:
    prepared = prepare_tokenizer(byte_tokenizer(eos="</s>", bos="<s>"), "zephyr", others=["alpaca", "chatml", "vicuna"])
    assert prepared.added_tokens == ("<|im_start|>", "<|im_end|>", "<|pad|>")
    stop = {name: other.tokenizer.eos_token for name, other in prepared.others.items()}
    assert stop == {"alpaca": "</s>", "chatml": "<|im_end|>", "vicuna": "</s>"}
    assert prepared.tokenizer.convert_ids_to_tokens(list(prepared.stop_ids)) == ["</s>", "<|im_end|>"]
    assert prepared.pad_id not in prepared.stop_ids
    prepared.tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    for tokenizer in (prepared.tokenizer, *(other.tokenizer for other in prepared.others.values())):
        assert tokenizer.get_vocab() == saved.get_vocab()
        assert tokenizer("<|im_end|>")["input_ids"] == [saved.get_vocab()["<|im_end|>"]]


def test_the_pad_is_no_stop_token_of_any_template(byte_tokenizer: Make) -> None:
    """As a pad, <|im_end|> would do for zephyr alone."""
    tokenizer = byte_tokenizer(eos="</s>", pad="<|im_end|>", others=("<|im_start|>",))
    prepared = prepare_tokenizer(tokenizer, "zephyr", others=["chatml"])
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in prepared.stop_ids
    assert prepared.pad_id == tokenizer.pad_token_id
    assert prepared.pad_id not in prepared.stop_ids


def test_a_template_that_is_the_main_one_is_not_prepared_twice(byte_tokenizer: Make) -> None:
    assert prepare_tokenizer(byte_tokenizer(), "chatml", others=["chatml"]).others == {}


def test_the_notes_say_which_template_they_are_about(byte_tokenizer: Make) -> None:
    notes = prepare_tokenizer(byte_tokenizer(pad="<pad>"), "zephyr", others=["chatml"]).notes
    assert notes == (
        "rows in chatml: <|im_start|> is new to the vocabulary",
        "rows in chatml: <|im_end|> is new to the vocabulary",
        "answers of rows in chatml end in <|im_end|>",
    )
