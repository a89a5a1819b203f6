"""Every command, recipe, row, table and link of README.md and docs/ is true."""

import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from poise import cli, errors
from poise.codes import as_tables
from poise.curate.benchmarks import BENCHMARKS
from poise.curate.curation import Curation, load_curation
from poise.curate.entry import SourceEntry
from poise.curate.formats import Formats
from poise.curate.step import PACKAGE as STEPS
from poise.dialects import REFUSED, RENAMED
from poise.evaluate.questions import load_questions
from poise.names import load_named, names_in
from poise.recipe import chat_template_names
from poise.recipe_defaults import LEARNING_RATES, TRAINING
from poise.recipe_objective import objective_class
from poise.recipe_sections import DataSection, ModelSection, PoiseSection
from poise.recipe_yaml import read_yaml
from poise.sources import SourceSpec, load

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OBJECTIVES_PAGE = ROOT / "docs" / "objectives.md"
CURATION_PAGE = ROOT / "docs" / "curation.md"
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WRITTEN = re.compile(r"^cat > (\S+) <<'END'\n(.*?)^END\n", re.MULTILINE | re.DOTALL)
WRITTEN_VERBS = ("arena", "card", "chat", "check", "compare", "curate", "demo", "evaluate", "explain", "init", "look",
                 "mask", "merge", "plan", "publish", "quantize", "report", "run", "serve", "sources",
                 "trace")  # fmt: skip
VERBS = [*names_in("poise.objectives"), *WRITTEN_VERBS]


@dataclass
class Command:
    """One command of a page, what the page shows of its output, and the exit code it shows."""

    text: str
    shown: list[str] = field(default_factory=list)
    code: int = 0


def blocks(page: Path, *languages: str) -> Iterator[str]:
    return (text for language, text in FENCE.findall(page.read_text()) if language in languages)


def commands(page: Path) -> list[Command]:
    """List the commands of bash blocks, parts of `a && b` apart, and of console blocks with what follows them."""
    found: list[Command] = []
    for language, text in FENCE.findall(page.read_text()):
        lines = WRITTEN.sub("", text).replace("\\\n", " ").splitlines()
        if language == "bash":
            found += [Command(part.strip()) for line in lines for part in line.split("&&")]
        elif language == "console":
            for line in lines:
                if line == "$ echo $?":
                    found[-1].shown.append(line)
                elif line.startswith("$ "):
                    found.append(Command(line[2:]))
                elif found[-1].shown[-1:] == ["$ echo $?"]:
                    found[-1].shown.pop()
                    found[-1].code = int(line)
                else:
                    found[-1].shown.append(line)
    return found


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name)


@pytest.fixture(scope="module")
def supplies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what the pages speak of: my-model/, and small files of each kind."""
    folder = tmp_path_factory.mktemp("supplies")
    write_model(folder / "my-model")
    rows: dict[str, list[dict[str, Any]]] = {
        "chats.jsonl": [{"messages": dialogue(n)} for n in range(8)],
        "pairs.jsonl": [
            {"prompt": f"What is {n} plus 1?", "chosen": f"{n + 1}.", "rejected": f"{n + 2}."} for n in range(8)
        ],
        "texts.jsonl": [{"text": f"{n} plus 1 is {n + 1}. " * 5} for n in range(8)],
        "broken.jsonl": [{"messages": dialogue(1)}, {"messages": [{"role": "usr", "content": "Hi"}]}],
        "questions.jsonl": [{"id": "sum", "set": "sums", "prompt": "What is 2 plus 1?", "expected": "3"}],
    }
    for file, lines in rows.items():
        (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    return folder


def dialogue(n: int) -> list[dict[str, str]]:
    answer = f"{n} plus 1 is {n + 1}."
    return [{"role": "user", "content": f"What is {n} plus 1?"}, {"role": "assistant", "content": answer}]


def write_model(folder: Path) -> None:
    """Write a two-layer Llama with a tokenizer of single bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [], trainers.BpeTrainer(special_tokens=["<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(wrapped), bos_token_id=None, **sizes)).save_pretrained(folder)
    wrapped.save_pretrained(folder)


@pytest.fixture
def workplace(supplies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a fresh copy of the supplies, with nothing of the user's around."""
    shutil.copytree(supplies, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("POISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "here"


def write_files(page: Path, folder: Path) -> None:
    """Write each yaml block of a page under the name in its first line, and what its bash blocks write."""
    for text in blocks(page, "bash"):
        for file, content in WRITTEN.findall(text):
            (folder / file).write_text(content)
    for text in blocks(page, "yaml"):
        file = re.match(r"# (\S+\.yaml)\n", text)
        assert file, f"{name(page)}: a yaml block does not begin with its name:\n{text}"
        assert not (folder / file[1]).exists(), f"{name(page)} shows {file[1]} twice"
        (folder / file[1]).write_text(text)


def poise(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a poise command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def flat(text: str) -> str:
    return " ".join(text.split())


@every_page
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning")  # peft 0.21's old names
def test_every_command_of_a_page_does_what_the_page_says(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(page, workplace)
    for command in commands(page):
        if command.text.startswith("pip install "):
            check_pip(command.text)
        elif command.text == "poise demo":
            assert poise("poise demo --help", monkeypatch) == 0
        elif shlex.split(command.text)[0] != "pytest":
            capsys.readouterr()
            assert command.text.startswith("poise "), f"{name(page)}: no test knows {command.text!r}"
            code = poise(command.text, monkeypatch)
            printed = capsys.readouterr()
            output = flat(printed.out + printed.err)
            assert code == command.code, f"$ {command.text}\n{printed.err}"
            for line in command.shown:
                for part in line.split("…"):
                    assert flat(part) in output, f"$ {command.text}\nprints no {part!r}:\n{printed.out}{printed.err}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_prints_what_the_readme_shows(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert poise("poise demo", monkeypatch) == 0
    output = without_numbers(capsys.readouterr().err)
    (shown,) = blocks(ROOT / "README.md", "text")
    for line in shown.splitlines():
        for part in line.split("…"):
            assert without_numbers(part) in output


def without_numbers(text: str) -> str:
    """Leave the words, which are the same on every machine."""
    return flat(re.sub(r"\d+(\.\d+)?", "#", text))


def check_pip(command: str) -> None:
    """Check that the constraints exist and that pyproject.toml declares every extra; nothing is installed."""
    words = shlex.split(command)
    assert (ROOT / words[words.index("-c") + 1]).is_file()
    place, _, extras = words[words.index("-e") + 1].partition("[")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert place == "."
    assert {extra for extra in extras.rstrip("]").split(",") if extra} <= declared.keys()


def test_the_two_set_up_commands_stand_in_the_readme_and_the_checks_run_the_second() -> None:
    printed = list(blocks(ROOT / "README.md", "bash"))
    assert "pip install -c constraints.txt -e . && poise demo\n" in printed
    assert "pip install -c constraints.txt -e '.[dev]' && pytest -n auto --dist worksteal\n" in printed
    pattern = re.search(r"grep -m 1 -E '([^']+)' README.md", (ROOT / ".ci" / "run").read_text())
    assert pattern
    assert re.findall(pattern[1], (ROOT / "README.md").read_text(), re.MULTILINE) == [printed[1].strip()]


# What the pages say of the command line ------------------------------------------------------------------------------


def test_help_lists_every_verb_that_the_pages_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert poise("poise --help", monkeypatch) == 0
    listed = set(re.findall(r"^  ([a-z_]+)  ", capsys.readouterr().out, re.MULTILINE))
    told = [command.text for page in PAGES for command in commands(page) if not command.code]
    told += [code for page in PAGES for code in re.findall(r"`(poise [^`]+)`", FENCE.sub("", page.read_text()))]
    named = {word for words in map(str.split, told) for word in words[1:2] if words[0] == "poise" and word[0] != "-"}
    assert listed == set(VERBS)
    assert named == listed


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert poise(f"poise {verb} --help", monkeypatch) == 0
    assert "Usage: poise" in capsys.readouterr().out


def test_the_exit_codes_are_those_of_the_errors() -> None:
    tables = [tables_of(ROOT / page)["Exit codes"] for page in ("README.md", "docs/runs-and-reports.md")]
    raised = {error.exit_code for error in vars(errors).values() if hasattr(error, "exit_code")}
    assert {row[0] for row in tables[0]} == {row[0] for row in tables[1]} == {str(code) for code in {0, 130} | raised}


# What the pages say of rows, recipes and runs ------------------------------------------------------------------------


def tables_of(page: Path) -> dict[str, list[list[str]]]:
    """Return the rows of the tables under each heading, cell by cell, without their heads."""
    found: dict[str, list[list[str]]] = {}
    heading, in_table = "", False
    for line in FENCE.sub("", page.read_text()).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif in_table and line.startswith("| "):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("| ").split(" | ")])
        in_table = line.startswith("|---") or (in_table and line.startswith("| "))
    return found


@pytest.mark.parametrize(("page", "heading"), [("README.md", "Data"), ("docs/examples-and-sources.md", "Shapes")])
def test_every_row_that_a_page_shows_becomes_what_it_says(page: str, heading: str, tmp_path: Path) -> None:
    for number, (row, becomes) in enumerate(tables_of(ROOT / page)[heading]):
        file = tmp_path / f"{number}.jsonl"
        file.write_text(json.dumps(json.loads(row.strip("`"))) + "\n")
        (example,) = load(SourceSpec(str(file))).examples
        if page == "README.md":
            learning = {verb for verb in names_in("poise.objectives") if example.kind in objective_class(verb).rows}
            named = set(re.findall(r"`(\w+)`", becomes))
            assert named == learning or (named < learning and becomes.endswith("…"))
        else:
            assert becomes == f"`{type(example).__name__}`"


@every_page
def test_every_line_of_jsonl_is_a_row_or_a_question(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(page, "jsonl")):
        file = tmp_path / f"{number}.jsonl"
        file.write_text(text)
        read = load_questions(file) if '"set"' in text else load(SourceSpec(str(file))).examples
        assert len(read) == len(text.splitlines())


@pytest.mark.parametrize(
    ("heading", "section"), [("Model", ModelSection), ("Data", DataSection), ("poise", PoiseSection)]
)
def test_the_recipe_page_lists_every_key_with_its_default(heading: str, section: type[BaseModel]) -> None:
    fields = {key: "required" if each.is_required() else each.default for key, each in section.model_fields.items()}
    assert listed(ROOT / "docs" / "recipes.md", heading) == fields


def test_the_recipe_page_lists_the_training_defaults() -> None:
    assert listed(ROOT / "docs" / "recipes.md", "Training") == TRAINING
    rates = [row for row in tables_of(ROOT / "docs" / "recipes.md")["Training"] if not row[0].startswith("`")]
    named = {
        (row[0], tuning): float(rate) for row in rates for tuning, rate in zip(("full", "LoRA"), row[1:], strict=True)
    }
    assert named == LEARNING_RATES


def test_the_recipe_page_lists_every_old_spelling_and_refusal() -> None:
    page = ROOT / "docs" / "recipes.md"
    assert {old.strip("`"): new.strip("`") for old, new in tables_of(page)["Dialects"]} == RENAMED
    assert set(re.findall(r"`(\w+)`", page.read_text().rsplit("Four keys", 1)[1])) == REFUSED.keys()


@pytest.mark.parametrize("verb", names_in("poise.objectives"))
def test_the_objectives_page_lists_every_key(verb: str) -> None:
    """In the objective's own table or in that of the shared keys, which says whose they are."""
    fields = {key: each.default for key, each in objective_class(verb).model_fields.items()}
    shared = {row[0].strip("`"): row[2] for row in tables_of(OBJECTIVES_PAGE)["Shared keys"]}
    told = {key for key, losses in shared.items() if verb in losses_named(losses)}
    assert told == shared.keys() & fields.keys()
    own = listed(OBJECTIVES_PAGE, verb) if fields.keys() - told else {}
    assert own | {key: listed(OBJECTIVES_PAGE, "Shared keys")[key] for key in told} == fields
    assert f"\n## {verb}\n" in OBJECTIVES_PAGE.read_text()


def losses_named(text: str) -> set[str]:
    """Read `all with a reference but `aot`` as the names it means."""
    named = set(re.findall(r"`(\w+)`", text))
    every = {verb for verb in names_in("poise.objectives") if objective_class(verb).needs_reference}
    on_pairs = {verb for verb in every if objective_class(verb).unit == "pairs"}
    if text.startswith("all on pairs with a reference"):
        return on_pairs - named
    return every - named if text.startswith("all with a reference") else named


def test_the_objectives_page_says_what_each_learns_from() -> None:
    nouns = {
        "documents": "document",
        "conversations": "conversation",
        "preference pairs": "preference_pair",
        "ranked answers": "ranked_answers",
        "labelled conversations": "labeled_conversation",
    }
    rows = {row[0].strip("`"): row[1:] for row in tables_of(OBJECTIVES_PAGE)["Objectives"]}
    assert rows.keys() == set(names_in("poise.objectives"))
    for verb, (learns_from, counted_by, reference) in rows.items():
        objective = objective_class(verb)
        assert objective.rows == tuple(nouns[each] for each in learns_from.split(", "))
        assert counted_by == {"tokens": "trained token", "pairs": "pair", "answers": "answer"}[objective.unit]
        assert reference == ("yes" if objective.needs_reference else "no")


@pytest.mark.parametrize(
    ("heading", "model"), [("Recipe", Curation), ("Source keys", SourceEntry), ("Prompt formats", Formats)]
)
def test_the_curation_page_lists_every_key_with_its_default(heading: str, model: type[BaseModel]) -> None:
    assert listed(CURATION_PAGE, heading) == defaults_of(model)


@pytest.mark.parametrize("step", names_in(STEPS))
def test_the_curation_page_lists_every_key_of_every_step(step: str) -> None:
    (model,) = [each for each in vars(load_named(STEPS, step)).values() if is_step(each, step)]
    assert listed(CURATION_PAGE, step) == defaults_of(model)


def is_step(value: Any, name: str) -> bool:
    return isinstance(value, type) and value.__name__ == "".join(map(str.capitalize, name.split("_")))


def defaults_of(model: type[BaseModel]) -> dict[str, Any]:
    fields = {key: "required" if each.is_required() else each.default for key, each in model.model_fields.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


def test_the_preflight_page_lists_every_code() -> None:
    """As `python -c "from poise.codes import as_tables; print(as_tables(), end='')"` prints them."""
    assert (ROOT / "docs" / "preflight.md").read_text().split("\n## Codes\n")[1].endswith(f"\n{as_tables()}")


def test_the_curation_page_names_every_benchmark() -> None:
    (told,) = re.findall(r"^Known are (.*?):", CURATION_PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", told)) == BENCHMARKS.keys()


@every_page
def test_every_curation_of_a_page_has_no_mistake(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "yaml"):
        if "\nsources:\n" in text:
            (tmp_path / "recipe.yaml").write_text(text)
            assert load_curation(tmp_path / "recipe.yaml").named_steps()


def test_the_curation_page_names_everything_that_a_build_leaves(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(CURATION_PAGE, workplace)
    assert poise("poise curate curation.yaml", monkeypatch) == 0
    assert poise("poise look my-data", monkeypatch) == 0
    named = {row[0].strip("`") for row in tables_of(CURATION_PAGE)["What is in the folder"]}
    assert named == {path.name for path in (workplace / "my-data").iterdir()}


def test_the_rendering_page_names_every_template() -> None:
    text = (ROOT / "docs" / "rendering.md").read_text()
    (named,) = re.findall(r"ship with poise \((.*?)\)", text, re.DOTALL)
    assert re.findall(r"`([\w-]+)`", named) == chat_template_names()


def test_the_papers_page_leads_from_every_objective_to_its_test() -> None:
    page = ROOT / "docs" / "papers.md"
    found: list[str] = []
    for row in tables_of(page)["Papers"]:
        source, test = (page.parent / target for target in re.findall(r"\]\((\.\./[^)]+)\)", " ".join(row)))
        module = ".".join(source.resolve().with_suffix("").relative_to(ROOT / "src").parts)
        assert module in test.read_text()
        found.append(module)
    for verb in names_in("poise.objectives"):
        assert found.count(f"poise.objectives.{verb}") == 1, f"{verb} has no row of its own"


def test_the_page_on_runs_names_everything_a_run_leaves(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "runs-and-reports.md"
    write_files(page, workplace)
    assert poise("poise sft sft.yaml max_steps=2", monkeypatch) == 0
    left = {path.name for path in (workplace / "runs" / "sft").iterdir()}
    named = {row[0].strip("`") for row in tables_of(page)["Runs and reports"]}
    assert named == left
    told = page.read_text().split("## Metrics")[1].split("##")[0]
    logged = json.loads((workplace / "runs" / "sft" / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(re.findall(r"`(\w+)`", told)) - {"eval_"} <= logged.keys()


def listed(page: Path, heading: str) -> dict[str, Any]:
    """Return the keys of a table with their defaults, read as YAML."""
    rows = [row for row in tables_of(page)[heading] if row[0].startswith("`")]
    return {row[0].strip("`"): read_yaml(f"default: {row[1]}", name(page)).values["default"] for row in rows}


# Links ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), f"{name(page)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]
