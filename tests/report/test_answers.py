from typing import Any

from poise.report.answers import LONG, choose_answers

LABELS = ["before", "sft", "dpo"]


def sample(name: str, *scores: float | None, text: str = "x") -> dict[str, Any]:
    answers = {
        label: {"text": text, "score": score, "stopped": True} for label, score in zip(LABELS, scores, strict=True)
    }
    return {"set": name, "prompt": [{"role": "user", "content": "?"}], "expected": None, "answers": answers}


def test_losses_stand_beside_wins_and_the_rest_follows():
    samples = [sample("kept", 0, 1, 1), sample("lost", 0, 1, 0), sample("won", 0, 0, 1), sample("never", 0, 0, 0)]
    chosen = choose_answers(samples, LABELS)
    assert [one.set for one in chosen.losses or []] == ["lost"]
    assert [one.set for one in chosen.wins or []] == ["won", "kept"], "a win of the last stage stands first"
    assert [one.set for one in chosen.rest] == ["never"]
    assert chosen.counts == (1, 2, 1)


def test_part_marks_rank_the_larger_loss_first():
    chosen = choose_answers([sample("small", 1, 1, 0.75), sample("large", 1, 1, 0.25)], LABELS)
    assert [one.set for one in chosen.losses or []] == ["large", "small"]
    assert chosen.losses and chosen.losses[0].answers[-1].mark_text == "◐ score 0.25"


def test_without_scores_an_even_sample_of_the_whole_file_is_shown():
    chosen = choose_answers([sample(str(i), None, None, None) for i in range(24)], LABELS)
    assert chosen.losses is None
    assert [one.set for one in chosen.rest] == [str(i) for i in range(0, 24, 2)]


def test_a_text_without_end_is_cut_and_says_by_how_much():
    chosen = choose_answers([sample("long", None, None, None, text="y" * (LONG + 7))], LABELS)
    text = chosen.rest[0].answers[0].text
    assert (len(text.whole), text.left_out) == (LONG, 7)
