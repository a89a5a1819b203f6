"""Lengths as they are published, and texts that have exactly these lengths."""

from statistics import median

import pytest

from preference.plan import Settings
from preference.prepare import prepare, word_tokenizer
from preference.shapes import MAX_LENGTH, SHAPES, SHORTEST, Lengths, draw_lengths, pairs

# peft 0.21 asks the model for what transformers 5.23 renamed
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")


def test_median_lengths_are_the_published_ones() -> None:
    # tldr: 416 tokens, ratio 11.14: a prompt of 416 * 11.14 / 12.14 = 382 and an answer of 34 tokens
    assert (round(SHAPES["tldr"].prompt), round(SHAPES["tldr"].answer)) == (382, 34)
    drawn = draw_lengths(SHAPES["tldr"], 0, tokens=0, rows=4000)
    assert median(each.prompt for each in drawn) == pytest.approx(382, rel=0.02)
    assert median(each.chosen for each in drawn) == pytest.approx(34, rel=0.03)
    assert median(each.rejected for each in drawn) == pytest.approx(34, rel=0.03)


@pytest.mark.parametrize("name", SHAPES)
def test_no_pair_is_too_long_or_too_short(name: str) -> None:
    for each in draw_lengths(SHAPES[name], 1, tokens=0, rows=2000):
        assert each.prompt + max(each.chosen, each.rejected) <= MAX_LENGTH
        assert min(each.prompt, each.chosen, each.rejected) >= SHORTEST


def test_rows_are_whole_batches_of_about_the_tokens_asked_for() -> None:
    drawn = draw_lengths(SHAPES["tldr"], 0, tokens=40_000)
    assert len(drawn) % 8 == 0
    assert 40_000 <= sum(each.unshared for each in drawn) < 40_000 + 8 * 4 * 832  # eight rows of four medians more


def test_there_are_two_batches_however_long_the_rows() -> None:
    assert len(draw_lengths(SHAPES["capybara"], 0, tokens=1)) == 16


def test_the_same_seed_gives_the_same_rows() -> None:
    assert draw_lengths(SHAPES["tldr"], 3, tokens=0, rows=9) == draw_lengths(SHAPES["tldr"], 3, tokens=0, rows=9)
    assert draw_lengths(SHAPES["tldr"], 3, tokens=0, rows=9) != draw_lengths(SHAPES["tldr"], 4, tokens=0, rows=9)


def test_a_word_is_a_token() -> None:
    (row,) = pairs([Lengths(20, 9, 11)], seed=0)
    tokenizer = word_tokenizer()

    def tokens(messages: list[dict[str, str]], prompted: bool = False) -> list[int]:
        return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, add_generation_prompt=prompted)

    assert len(tokens(row["prompt"], prompted=True)) == 20
    assert len(tokens(row["prompt"] + row["chosen"])) == 29
    assert len(tokens(row["prompt"] + row["rejected"])) == 31
    assert tokenizer.unk_token_id not in tokens(row["prompt"] + row["chosen"])


def test_what_is_prepared_is_what_was_drawn(tmp_path) -> None:  # type: ignore[no-untyped-def]
    settings = Settings(8, 0, 16, "width", "cpu", 5, None)
    drawn = draw_lengths(SHAPES["hh-rlhf"], 5, tokens=0, rows=8)
    facts = prepare("hh-rlhf", settings, tmp_path)
    assert facts["rows"] == 8
    assert facts["pairs"]["tokens"] == sum(each.prompt + each.chosen + each.rejected for each in drawn)
    assert facts["pairs"]["trained"] == sum(each.chosen + each.rejected for each in drawn)
    assert facts["conversations"]["tokens"] == sum(each.prompt + each.chosen for each in drawn)
    assert facts["conversations"]["trained"] == sum(each.chosen for each in drawn)
    assert facts["unshared_tokens"] == sum(each.unshared for each in drawn)
