from dataclasses import replace

import pytest

from poise.report.stage import Stage
from poise.report.verdict import verdict

PERFECT = [
    {
        "step": step,
        "loss": 0.69 - 0.066 * step,
        "learning_rate": 1e-4,
        "rewards/margins": 0.3 * step,
        "rewards/accuracies": 1.0,
        "rewards/chosen": -0.4 * step,
        "logps/chosen": -20.0 - 4 * step,
    }
    for step in range(11)
]
SFT = Stage({"verb": "sft", "status": "done"}, [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 0.5}])


def test_gains_without_a_loss_are_good(scored):
    stage = scored(
        "dpo", [], 40, facts={"before": 0, "sft": 40, "dpo": 40}, polite={"before": 16, "sft": 20, "dpo": 40}
    )
    found = verdict([SFT, stage])
    assert found.level == "good"
    assert found.headline == "Learned: facts 0 → 100 %, polite 40 → 100 %, nothing lost."
    assert found.details[0] == (
        "facts: 0 % → 100 % (before → dpo: +100 points, 95 %: +88 to +100; 40 questions; 0 got worse, 40 better, "
        "p < 0.001)."
    )


def test_a_ruined_model_is_bad_though_reward_accuracy_is_perfect(scored):
    stage = scored(
        "dpo", PERFECT, 40, facts={"before": 0, "sft": 40, "dpo": 5}, polite={"before": 0, "sft": 34, "dpo": 36}
    )
    found = verdict([SFT, stage])
    assert found.level == "bad"
    assert found.headline == "DPO ruined the model: facts fell from 100 % to 12 % while reward accuracy reads 1.00."
    assert found.details[:2] == (
        "Likely cause: a learning rate that peaked at 1e-4; the chosen answers themselves became less likely.",
        "To do: train dpo again with a tenth of the learning rate (1e-5).",
    )
    # tenths of 11 logged steps are one step each: -20 and -20 - 4 * 10
    assert any("fell by 40.0 nats (−20 → −60" in line for line in found.details)


def test_a_gain_does_not_balance_the_loss_of_half(scored):
    stage = scored("dpo", [], 40, facts={"before": 40, "dpo": 12}, polite={"before": 0, "dpo": 40})
    assert verdict([stage]).level == "bad"


def test_a_smaller_loss_beside_a_gain_is_a_trade(scored):
    stage = scored("dpo", [], 40, facts={"before": 40, "dpo": 30}, polite={"before": 16, "dpo": 40})
    found = verdict([stage])
    assert found.level == "mixed"
    assert found.headline == "A trade: learned polite 40 → 100 %, but with DPO facts fell from 100 % to 75 %."


def test_a_loss_names_the_stage_that_caused_it(scored):
    stage = scored("dpo", [], 40, facts={"before": 40, "sft": 20, "dpo": 20})
    assert verdict([SFT, stage]).headline == "SFT ruined the model: facts fell from 100 % to 50 %."


def test_a_large_change_on_few_questions_is_not_known(scored):
    found = verdict([scored("dpo", [], 5, facts={"before": 5, "dpo": 2})])
    assert found.level == "unmeasured"
    assert found.headline == "Too few questions to tell: facts 100 → 40 % on 5 questions could be chance."


def test_a_possible_loss_is_told_beside_the_gain(scored):
    stage = scored("dpo", [], 10, facts={"before": 0, "sft": 10, "dpo": 6})
    found = verdict([SFT, stage])
    assert found.level == "mixed"
    assert found.headline.endswith("but too few questions to rule out a loss: facts 100 → 60 %.")


def test_a_sure_but_small_loss_is_not_called_nothing(scored):
    stage = scored("sft", [], 200, facts={"before": 200, "sft": 188}, polite={"before": 0, "sft": 200})
    found = verdict([stage])
    assert (found.level, found.headline) == (
        "good",
        "Learned: polite 0 → 100 %, with a small loss: facts 100 → 94 %.",
    )


def test_no_change_is_said_with_the_number_of_questions(scored):
    found = verdict([scored("sft", [], 40, facts={"before": 40, "sft": 40})])
    assert found.headline == "No set moved by 10 points or more: facts 100 → 100 % on 40 questions."


def answers(*texts: tuple[str, str], stopped: bool = True) -> list[dict[str, object]]:
    return [
        {
            "id": str(i),
            "set": "",
            "prompt": [{"role": "user", "content": "?"}],
            "expected": None,
            "answers": {
                "before": {"text": before, "score": None, "stopped": True, "tokens": 1},
                "after": {"text": after, "score": None, "stopped": stopped, "tokens": 1},
            },
        }
        for i, (before, after) in enumerate(texts)
    ]


def test_without_scores_better_or_worse_is_not_claimed():
    stage = replace(SFT, samples=answers(("a", "b"), ("a", "a"), ("a", "c")))
    found = verdict([stage])
    assert found.level == "unmeasured"
    assert found.headline == (
        "Better or worse is not known: no scored questions were given. "
        "2 of 3 answers changed; 3 of 3 stop by themselves; SFT ended at loss 0.5."
    )


def test_answers_that_became_empty_are_a_loss_without_any_score():
    found = verdict([replace(SFT, samples=answers(*[("a", " ")] * 10))])
    assert found.level == "bad"
    assert found.headline == "SFT ruined the model: answers that are not empty fell from 100 % to 0 %."


def test_answers_that_no_longer_stop_are_told():
    found = verdict([replace(SFT, samples=answers(*[("a", "b")] * 10, stopped=False))])
    assert "Answers no longer stop: 10 of 10 ended by themselves (before), now 0 of 10." in found.details


@pytest.mark.parametrize(("verb", "told"), [("dpo", True), ("orpo", False)])
def test_a_dpo_loss_that_stays_at_ln_2_is_told(verb, told):
    stage = Stage({"verb": verb, "status": "done"}, [{"step": 1, "loss": 0.6931}, {"step": 2, "loss": 0.6925}])
    assert any("stayed at ln 2" in line for line in verdict([stage]).details) is told


def test_a_loss_that_was_not_a_number_is_counted():
    stage = replace(SFT, metrics=[{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 0.5}])
    assert verdict([stage]).details == ("sft: the loss was not a number at 1 of 2 logged steps.",)


def test_an_interrupted_run_without_any_file_has_a_verdict():
    found = verdict([Stage({"verb": "sft", "status": "interrupted"})])
    assert found.level == "unmeasured"
    assert found.details == ("sft: the run is not finished, its status is interrupted.",)
