"""Every recipe in recipes/ resolves for its folder's objective and trains two steps with a tiny model in its place.

Those in recipes/curate/ and recipes/pipelines/ are read with all that they name, and nothing is loaded.
"""

from pathlib import Path

import pytest

from helpers.in_place import in_place
from poise.curate.curation import load_curation
from poise.demo.demo import pipeline_text
from poise.pipeline.run import run_pipeline
from poise.recipe import load_recipe
from poise.run import Run
from poise.train.train import train

RECIPES = Path(__file__).parents[1] / "recipes"
FILES = sorted(RECIPES.glob("*/*/*.yaml"))
CURATIONS = sorted((RECIPES / "curate").glob("*.yaml"))
PIPELINES = sorted((RECIPES / "pipelines").glob("*.yaml"))
SAMPLE = list({(path.parent.name, path.stem): path for path in FILES}.values())
"""One for each objective and tuning; the others are slow."""


def named(path: Path) -> str:
    return str(path.relative_to(RECIPES))


every_recipe = pytest.mark.parametrize("path", FILES, ids=named)


def test_there_are_recipes_for_every_objective() -> None:
    assert {path.parent.name for path in FILES} == {"cpt", "sft", "dpo", "orpo"}


@every_recipe
def test_a_shipped_recipe_resolves_and_says_where_its_values_come_from(path: Path) -> None:
    recipe = load_recipe(path.parent.name, path)
    assert recipe.verb == path.parent.name
    assert not [note for note in recipe.notes if "not installed" not in note.why], "every line of a shipped recipe acts"
    assert path.read_text().count("\n#") >= 2, "the comment names the source of the values"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=named(path), marks=() if path in SAMPLE else pytest.mark.slow) for path in FILES],
)
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning")  # peft 0.21's old names
def test_a_shipped_recipe_trains(path: Path, small_model: Path, tmp_path: Path) -> None:
    overrides = in_place(load_recipe(path.parent.name, path), small_model, tmp_path)
    recipe = load_recipe(path.parent.name, path, overrides)
    run = Run(tmp_path / "run")
    train(recipe, run)
    losses = [line["loss"] for line in run.metrics() if "loss" in line]
    assert run.manifest["status"] == "done"
    assert len(losses) == 2
    assert all(0 < loss < 20 for loss in losses)
    assert list((run.path / "model").glob("*.safetensors"))


def test_there_are_recipes_for_curation() -> None:
    assert {path.stem for path in CURATIONS} == {"bagel", "mini-platypus", "zephyr-dpo", "zephyr-sft"}


@pytest.mark.parametrize("path", CURATIONS, ids=lambda path: path.stem)
def test_a_shipped_curation_has_no_mistake_and_accepts_no_risk(path: Path) -> None:
    curation = load_curation(path)
    assert curation.out == f"curated/{path.stem}"
    assert curation.named_steps()
    assert not any(entry.accept_risk for entry in curation.sources)
    assert path.read_text().count("\n#") >= 2, "the comment names the source of the values"


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_every_stage_of_a_pipeline_resolves_and_it_has_at_most_12_lines(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(RECIPES.parent)
    told = run_pipeline(path, dry_run=True)
    assert {line["does"] for line in told["stages"]} == {"run"}
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 12


def test_the_pipeline_of_the_demo_is_the_one_that_the_demo_writes() -> None:
    shipped = (RECIPES / "pipelines" / "demo.yaml").read_text()
    assert shipped.partition("\n\n")[2] == pipeline_text(Path("poise-demo"))
