"""MT-Bench: FastChat's printout and files, its prompts and its way of reading a grade."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers import judge_server as judges
from poise.errors import DataError
from poise.evaluate import mtbench, mtbench_files
from poise.evaluate.answer import Answer, Sampling
from poise.evaluate.endpoint import open_endpoint
from poise.evaluate.journal import Journal
from poise.evaluate.judge import open_judge
from poise.evaluate.server import Server

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mt-bench"
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason="MT-Bench's questions lie outside the project")


# FastChat's table ----------------------------------------------------------------------------------------------------


def synthetic() -> list[dict[str, Any]]:
    """Two models, grades by arithmetic, some judgments without one."""
    rows: list[dict[str, Any]] = []
    for model, shift in (("tiny-a", 0), ("a-much-longer-model-name-7b", 3)):
        for turn in (1, 2):
            for question in range(81, 161):
                score: float = (question * 7 + turn * 3 + shift) % 19 / 2 + 1
                score = -1 if (question + turn + shift) % 23 == 0 else int(score) if score == int(score) else score
                rows.append({"model": model, "score": score, "turn": turn})
    return rows


SYNTHETIC = """
########## First turn ##########
                                     score
model                       turn          
a-much-longer-model-name-7b 1     5.506579
tiny-a                      1     5.453947

########## Second turn ##########
                                     score
model                       turn          
a-much-longer-model-name-7b 2     5.440789
tiny-a                      2     5.388158

########## Average ##########
                                score
model                                
a-much-longer-model-name-7b  5.473684
tiny-a                       5.421053
"""  # noqa: W291
"""What `show_result --input-file …` of fschat 0.2.36's llm_judge (pandas 2.2.3) prints of these rows."""

BAGEL = """
########## First turn ##########
                          score
model             turn         
bagel-dpo-7b-v0.1 1     7.60625

########## Second turn ##########
                          score
model             turn         
bagel-dpo-7b-v0.1 2     7.00625

########## Average ##########
                     score
model                     
bagel-dpo-7b-v0.1  7.30625
"""  # noqa: W291
"""The same program on grades that add up to 608.5 and 560.5; the three numbers are those in bagel's README."""


def bagel() -> list[dict[str, Any]]:
    """80 whole grades of each turn, the last with a half more."""
    rows: list[dict[str, Any]] = []
    for turn, whole, higher in ((1, 7, 48), (2, 7, 0)):
        for place in range(80):
            score = whole + (place < higher) + (0.5 if place == 79 else 0)
            rows.append({"model": "bagel-dpo-7b-v0.1", "score": score, "turn": turn})
    return rows


@pytest.mark.parametrize(("rows", "expected"), [(synthetic(), SYNTHETIC), (bagel(), BAGEL)], ids=["synthetic", "bagel"])
def test_the_table_is_fastchats_to_the_byte(rows: list[dict[str, Any]], expected: str) -> None:
    assert mtbench.printout(rows) == expected


@pytest.mark.parametrize(
    ("judgment", "score"),
    [
        ("Good. Rating: [[7]]", 7), ("[[7.5]]", 7.5), ("Rating: [8]", 8), ("[3] is wrong. [[9]]", 9), ("[[10]]", 10),
        ("[[1]]", 1), ("[[0]]", -1), ("[[11]]", -1), ("Rating: 7", -1), ("", -1), ("[[seven]]", -1), ("[[07]]", 7),
    ],
)  # fmt: skip
def test_a_grade_is_read_as_fastchat_does_and_one_out_of_range_is_none(judgment: str, score: float) -> None:
    assert mtbench.parse_score(judgment) == score


# The protocol --------------------------------------------------------------------------------------------------------


@pytest.fixture
def benchmark(tmp_path: Path) -> mtbench_files.Benchmark:
    """Three questions and the four prompts of grading."""
    folder = tmp_path / "data"
    folder.mkdir()
    questions = [
        {"question_id": 81, "category": "writing", "turns": ["Write.", "Rewrite."]},
        {"question_id": 111, "category": "math", "turns": ["Area?", "And twice?"]},
        {"question_id": 131, "category": "extraction", "turns": ["Extract {braces}.", "Again."]},
    ]
    system = "You are a helpful assistant."
    prompts = [
        ("single-v1", system, "Q {question} A {answer}"),
        ("single-math-v1", system, "Q {question} R {ref_answer_1} A {answer}"),
        ("single-v1-multi-turn", "Judge.", "Q {question_1} {question_2} A {answer_1} {answer_2}"),
        (
            "single-math-v1-multi-turn",
            "Judge.",
            "Q {question_1} {question_2} R {ref_answer_1} {ref_answer_2} A {answer_1} {answer_2}",
        ),
    ]  # fmt: skip
    references = [{"question_id": 111, "choices": [{"index": 0, "turns": ["six", "twelve"]}]}]
    write(folder / "question.jsonl", questions)
    write(
        folder / "judge_prompts.jsonl",
        [{"name": name, "system_prompt": about, "prompt_template": text} for name, about, text in prompts],
    )
    write(folder / "reference-gpt-4.jsonl", references)
    return mtbench_files.read_benchmark(folder)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ANSWERS = {81: ["w1", "w2"], 111: ["m{1}", "m2"], 131: ["e1", "e2"]}


class Echo:
    """An engine that says what it was asked, and at what temperature."""

    name = "echo"
    identity = {"model": "echo"}  # noqa: RUF012

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def answer(self, questions: Any, sampling: Sampling, label: str, keep: Any, hear: Any = None) -> list[Answer]:
        given = [Answer("/".join(m.content for m in each.prompt), 1, True, None) for each in questions]
        for question, each in zip(questions, given, strict=True):
            self.asked.append((question.id, sampling.temperature))
            keep(question, each)
        return given


def test_both_turns_are_asked_at_the_temperature_of_their_category(
    benchmark: mtbench_files.Benchmark, tmp_path: Path
) -> None:
    engine, journal = Echo(), Journal(tmp_path / "answers.jsonl")
    answers = mtbench.answer_questions(engine, benchmark.questions, journal, max_new_tokens=8)
    assert answers[81][1].text == "Write./Write./Rewrite."
    assert dict(engine.asked) == {
        "111-first turn": 0.0, "131-first turn": 0.0, "81-first turn": 0.7,
        "111-second turn": 0.0, "131-second turn": 0.0, "81-second turn": 0.7,
    }  # fmt: skip
    again = Echo()
    assert mtbench.answer_questions(again, benchmark.questions, journal, max_new_tokens=8) == answers
    assert again.asked == []


def judge_all(
    benchmark: mtbench_files.Benchmark, tmp_path: Path, says: Any, repeats: int = 1, **habits: Any
) -> tuple[Any, list[mtbench.Judgment]]:
    made = judges.Habits(says=says, **habits)
    with judges.serving(made) as url:
        server = Server(open_endpoint(url), "gpt-4", Journal(tmp_path / "replies.jsonl"), first_wait=0.001)
        judge = open_judge(server, needs_logprobs=False)
        return made, mtbench.judge_answers(judge, benchmark, ANSWERS, repeats=repeats)


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_each_turn_is_graded_with_its_prompt_and_references_only_where_they_guide(
    benchmark: mtbench_files.Benchmark, tmp_path: Path
) -> None:
    habits, judgments = judge_all(benchmark, tmp_path, judges.always("[[6]]"))
    prompts = {(each.question.id, each.turn): (each.prompt_name, each.user_prompt) for each in judgments}
    assert prompts == {
        (81, 1): ("single-v1", "Q Write. A w1"),
        (111, 1): ("single-math-v1", "Q Area? R six A m{1}"),
        (131, 1): ("single-v1", "Q Extract {braces}. A e1"),
        (81, 2): ("single-v1-multi-turn", "Q Write. Rewrite. A w1 w2"),
        (111, 2): ("single-math-v1-multi-turn", "Q Area? And twice? R six twelve A m{1} m2"),
        (131, 2): ("single-v1-multi-turn", "Q Extract {braces}. Again. A e1 e2"),
    }
    assert {(body["temperature"], body["max_tokens"]) for body in habits.bodies} == {(0, 2048)}
    assert {body["messages"][0]["content"] for body in habits.bodies} == {"You are a helpful assistant.", "Judge."}


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_judgment_without_a_grade_is_counted_bounded_and_in_no_mean(
    benchmark: mtbench_files.Benchmark, tmp_path: Path
) -> None:
    def says(prompt: str) -> str:
        return "no idea" if prompt == "Q Write. A w1" else "[[4]]" if "R " in prompt else "[[7]]"

    _, judgments = judge_all(benchmark, tmp_path, says)
    first, second, average = mtbench.tables(judgments)[0].lines
    assert (first.estimate.value, first.unscored, first.estimate.n) == (5.5, 1, 2)
    assert first.worst == ((4 + 7 + 1) / 3, (4 + 7 + 10) / 3)
    assert (second.estimate.value, second.unscored, second.worst) == (6, 0, None)
    assert average.estimate.value == pytest.approx((4 + 7 + 7 + 4 + 7) / 5), "of all grades, not of two means"
    assert [line.name for line in mtbench.tables(judgments)[1].lines] == ["writing", "math", "extraction"]
    scores = {item.id: item.score for item in mtbench.items(judgments, {"model": "gpt-4"})}
    assert scores["81-1"] is None
    assert scores["111-2"] == 4


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_repeats_are_asked_anew_and_their_spread_is_told(benchmark: mtbench_files.Benchmark, tmp_path: Path) -> None:
    grades = iter(range(100))
    habits, judgments = judge_all(benchmark, tmp_path, lambda prompt: f"[[{5 + next(grades) // 6}]]", repeats=3)
    assert len(habits.bodies) == 18
    assert sorted(mtbench.spread(judgments))[0] < sorted(mtbench.spread(judgments))[2]
    assert mtbench.tables(judgments)[0].lines[2].estimate.n == 18


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_files_are_fastchats(benchmark: mtbench_files.Benchmark, tmp_path: Path) -> None:
    def refuses(body: dict[str, Any]) -> tuple[int, str] | None:
        return (400, "too long") if body["messages"][1]["content"] == "Q Write. A w1" else None

    _, judgments = judge_all(benchmark, tmp_path, judges.always("[[6]]"), refuses=refuses)
    rows = mtbench.write_judgments(tmp_path, "org/mine", "gpt-4", judgments)
    kept = [json.loads(line) for line in (tmp_path / "model_judgment" / "gpt-4_single.jsonl").read_text().splitlines()]
    assert kept == rows
    assert len(rows) == 5, "a refused request is no judgment"
    assert list(rows[0]) == ["question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp"]
    given = {id: [Answer(text, 1, True, None) for text in turns] for id, turns in ANSWERS.items()}
    path = mtbench_files.write_answers(tmp_path, "org/mine", given)
    assert path == tmp_path / "model_answer" / "org_mine.jsonl"
    assert mtbench_files.read_answers(path) == ("org/mine", ANSWERS)


def test_files_that_are_not_there_are_named_with_their_origin(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)question\.jsonl.*FastChat"):
        mtbench_files.read_benchmark(tmp_path)


def test_a_guided_question_without_a_reference_is_refused(benchmark: mtbench_files.Benchmark, tmp_path: Path) -> None:
    other = write(tmp_path / "r.jsonl", [{"question_id": 1, "choices": [{"index": 0, "turns": ["a", "b"]}]}])
    with pytest.raises(DataError, match=r"no reference answer for the questions \[111\]"):
        mtbench_files.read_benchmark(tmp_path / "data", other)


def test_prompts_that_are_missing_or_ask_for_more_are_told(benchmark: mtbench_files.Benchmark, tmp_path: Path) -> None:
    prompts = {**benchmark.prompts, "single-v1": {**benchmark.prompts["single-v1"], "prompt_template": "{mood}"}}
    other = replace(benchmark, prompts=prompts)
    with pytest.raises(DataError, match="single-v1 asks for 'mood', which question 81 does not have"):
        mtbench._judge_request(other, benchmark.questions[0], 1, 0, ["a", "b"])
    file = tmp_path / "data" / "judge_prompts.jsonl"
    file.write_text(file.read_text().split("\n", 1)[1])
    with pytest.raises(DataError, match="has no prompt single-v1\n"):
        mtbench_files.read_benchmark(tmp_path / "data")


@needs_data
def test_the_benchmarks_own_files_are_known(tmp_path: Path) -> None:
    benchmark = mtbench_files.read_benchmark(FOLDER)
    assert len(benchmark.questions) == 80
    assert {len(each.turns) for each in benchmark.questions} == {2}
    assert sorted(benchmark.references) == list(range(101, 131))
    (note,) = benchmark.notes
    assert "13 of the 30" in note
    for question in benchmark.questions:
        for turn in (1, 2):
            request = mtbench._judge_request(benchmark, question, turn, 0, ["first {answer}", "second"])
            assert "first {answer}" in request.messages[1][1]
    corrected = tmp_path / "corrected.jsonl"
    corrected.write_bytes((FOLDER / "reference-gpt-4.jsonl").read_bytes() + b"\n")
    assert mtbench_files.read_benchmark(FOLDER, corrected).notes == []
