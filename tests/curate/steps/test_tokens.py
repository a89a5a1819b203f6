"""The step tokens: a row has the length that training gives it, without transformers."""

import dataclasses
import json
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from poise.batch.render import Refusal, Renderer
from poise.batch.row import Row
from poise.batch.tokens import prepare_tokenizer
from poise.curate.engine import Engine
from poise.curate.reason import Reason
from poise.curate.rows import DROPS, ROWS, Rows, row_of
from poise.curate.steps.tokens import Count, TokenCounter, Tokens
from poise.curate.tokenizer import read_tokenizer
from poise.errors import ModelError, RecipeError
from poise.examples import Conversation, Document, Example, LabeledConversation, Message, PreferencePair, RankedAnswers

ROLES: dict[str, Any] = {"s": "system", "u": "user", "a": "assistant"}
SPOKEN = (
    "{{ bos_token }}{% for m in messages %} {{ m['role'] }} {{ m['content'] }} {{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %} assistant{% endif %}"
)
"""<s> user hi </s> assistant hello there </s>"""


def turns(*texts: str) -> tuple[Message, ...]:
    """Read `u:hi` as a user's turn that says hi."""
    return tuple(Message(ROLES[text[0]], text[2:]) for text in texts)


def bos_first(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])


def of_words() -> Tokenizer:
    """One token a word, so that lengths can be counted by hand; texts begin with <s>."""
    vocabulary = ["<unk>", "<s>", "</s>", "system", "user", "assistant", "hi", "hello", "there"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = bos_first(tokenizer)
    return tokenizer


def of_bytes() -> Tokenizer:
    """Byte-level, as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(["hello hi there user assistant system answer question"] * 4, trainer)
    return tokenizer


def with_space_first() -> Tokenizer:
    """A space before every text and bytes for what is unknown, as Llama 2's; texts begin with <s>."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), "▁h"]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "h")], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = bos_first(tokenizer)
    return tokenizer


def saved(folder: Path, tokenizer: Tokenizer, template: str | None = SPOKEN) -> str:
    """Save as transformers does; returns the folder."""
    unknown = {"unk_token": "<unk>"} if tokenizer.token_to_id("<unk>") is not None else {}
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", **unknown)
    whole.chat_template = template
    whole.save_pretrained(folder)
    return str(folder)


def counts(folder: str, examples: Iterable[Example], template: str | None = None) -> list[Count | Reason]:
    return list(TokenCounter(read_tokenizer(folder), template).count(examples))


EXAMPLES: list[Example] = [
    Conversation(turns("u:hi", "a:hello there")),
    Conversation(turns("s:be brief", "u:hi", "a:hello", "u:why?\n\nTell me.", "a: so it is ✓")),
    Conversation(turns("u:what is </s> or <|im_end|>?", "a:a mark")),
    Conversation(turns("u:hi", "a: ")),
    PreferencePair(turns("u:hi"), turns("a:hello there"), turns("a:no")),
    PreferencePair(turns("s:be brief", "u:hi", "a:hello", "u:why?"), turns("a:so"), turns("a:because it is so")),
    PreferencePair(turns("u:hi"), turns("a:no"), turns("a:no")),
    LabeledConversation(turns("u:hi", "a:hello", "u:why?", "a:so"), desirable=False),
    RankedAnswers(turns("u:hi"), (turns("a:no"), turns("a:hello there"), turns("a:so")), (2, 0, 1)),
    Document("hello there, hello"),
]
TOKENIZERS = {"words": of_words, "bytes": of_bytes, "space first": with_space_first}


@pytest.mark.parametrize("template", [None, "chatml", "zephyr", "llama-2", "alpaca", "vicuna"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_row_has_the_length_that_training_gives_it(tmp_path: Path, name: str, template: str | None) -> None:
    folder = saved(tmp_path, TOKENIZERS[name]())
    renderer = Renderer(prepare_tokenizer(AutoTokenizer.from_pretrained(folder), template))
    found = counts(folder, EXAMPLES, template)
    for count, row in zip(found, renderer.rows(EXAMPLES), strict=True):
        if isinstance(row, Refusal):
            assert count == Reason(row.reason, row.evidence)
            continue
        assert isinstance(count, Count)
        assert isinstance(row, Row)
        assert count.total == max(row.sequence_lengths())
        if len(row.segments) > 1:
            assert count.prompt == len(row.segments[0])
            assert count.answer == max(segment.trained.sum() for segment in row.segments[1:])
    assert sum(isinstance(count, Count) for count in found) >= 7


def test_rows_with_templates_of_their_own_are_counted_in_that_of_the_step(tmp_path: Path) -> None:
    folder = saved(tmp_path, TOKENIZERS["bytes"]())
    chat = Conversation(turns("u:hi", "a:hello"))
    plain, named = counts(folder, [chat, dataclasses.replace(chat, template="llama-2")], "chatml")
    assert isinstance(plain, Count) and plain == named


def test_lengths_are_those_counted_by_hand(tmp_path: Path) -> None:
    """<s> user hi </s> assistant | hello there </s>; the bos is there once."""
    folder = saved(tmp_path, of_words())
    chat, pair = EXAMPLES[0], EXAMPLES[4]
    assert counts(folder, [chat]) == [Count(5, 3, 8)]
    assert counts(folder, [pair]) == [Count(5, 3, 8)]
    longer = PreferencePair(turns("u:hi"), turns("a:hello"), turns("a:hello hello hello"))
    assert counts(folder, [longer]) == [Count(5, 4, 9)]
    several = Conversation(turns("u:hi", "a:hello", "u:hi", "a:there"))  # … </s> user hi </s> assistant there </s>
    assert counts(folder, [several]) == [Count(5, 4, 13)]
    assert counts(folder, [Document("hello there")]) == [Count(0, 4, 4)]  # <s> hello there </s>


def test_truncation_and_padding_of_the_file_do_not_count(tmp_path: Path) -> None:
    folder = saved(tmp_path, of_words())
    tokenizer = of_words()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=20, pad_token="</s>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert counts(folder, EXAMPLES[:1]) == [Count(5, 3, 8)]


def test_older_files_keep_the_template_in_the_configuration(tmp_path: Path) -> None:
    of_words().save(str(tmp_path / "tokenizer.json"))
    template = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": SPOKEN}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    names = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "unk_token": "<unk>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names))
    assert counts(str(tmp_path), EXAMPLES[:1]) == [Count(5, 3, 8)]


def test_a_template_may_mark_what_it_generates(tmp_path: Path) -> None:
    marked = SPOKEN.replace("{{ m['content'] }}", "{% generation %}{{ m['content'] }}{% endgeneration %}")
    assert counts(saved(tmp_path, of_words(), marked), EXAMPLES[:1]) == [Count(5, 3, 8)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"max": 8}, None),
        ({"max": 7}, Reason("too long", "8 tokens > 7")),
        ({"min": 8}, None),
        ({"min": 9}, Reason("too short", "8 tokens < 9")),
    ],
)
def test_limits_are_inclusive(keys: dict[str, int], expected: Reason | None) -> None:
    assert Tokens(tokenizer="x", **keys).verdict(Count(5, 3, 8)) == expected


def test_a_document_is_never_too_long() -> None:
    assert Tokens(tokenizer="x", max=7).verdict(Count(0, 8, 8)) is None


def test_limits_that_no_row_can_meet_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least 9 and at most 8 tokens"):
        Tokens(tokenizer="x", min=9, max=8)


def test_the_counter_can_travel_to_another_process(tmp_path: Path) -> None:
    counter = Tokens(tokenizer=saved(tmp_path, of_words())).counter()
    first = list(counter.count(EXAMPLES[:1]))
    (tmp_path / "tokenizer.json").unlink()
    assert list(pickle.loads(pickle.dumps(counter)).count(EXAMPLES[:1])) == first


def test_counting_needs_no_torch(tmp_path: Path) -> None:
    folder = saved(tmp_path, of_words())
    code = (
        "import sys\n"
        "from poise.curate.steps.tokens import Tokens\n"
        "from poise.examples import Document\n"
        f"print(list(Tokens(tokenizer={folder!r}).counter().count([Document('hello there')]))[0].total)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["4", "False"]


def test_a_folder_without_a_fast_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no tokenizer\.json in"):
        read_tokenizer(str(tmp_path))


def test_a_name_that_is_no_folder_and_no_hub_id_is_refused() -> None:
    with pytest.raises(ModelError, match=r"there is no folder \./no/such/place"):
        read_tokenizer("./no/such/place")


def test_an_unknown_template_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'chatml'"):
        _ = Tokens(tokenizer=saved(tmp_path, of_words()), template="chatlm").counter().about


def test_the_step_drops_by_length_and_keeps_its_counts(tmp_path: Path) -> None:
    folder = saved(tmp_path, of_words())
    examples = [EXAMPLES[0], EXAMPLES[3], Conversation(turns("u:hi", "a:hello hello hello"))]
    stored = [
        row_of(each, each.source, Counter(), confidence=2, order=0, stratum=None, case_matters=False)
        for each in examples
    ]
    pq.write_table(pa.Table.from_pylist(stored, schema=ROWS), tmp_path / "rows.parquet")
    rows = Rows(Engine(), [tmp_path / "rows.parquet"], DROPS.empty_table().select(["id"]), 3)
    decisions = Tokens(tokenizer=folder, max=8).decide(rows)
    told = {row["id"]: (row["reason"], row["evidence"]) for row in decisions.drops.to_pylist()}
    ids = [row["id"] for row in stored]
    assert told == {ids[1]: ("empty completion", "turn 2 says nothing"), ids[2]: ("too long", "9 tokens > 8")}
    assert decisions.columns is not None
    assert {row.pop("id"): row for row in decisions.columns.to_pylist()} == {
        ids[0]: {"prompt_tokens": 5, "answer_tokens": 3, "tokens": 8},
        ids[2]: {"prompt_tokens": 5, "answer_tokens": 4, "tokens": 9},
    }
    assert decisions.facts["template"] == "the tokenizer's own"
