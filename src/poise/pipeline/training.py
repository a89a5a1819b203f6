"""A training as a stage: its recipe under the pipeline's keys, on the model and the rows that are there by then."""

from pathlib import Path
from typing import Any

from poise.dialects import RENAMED
from poise.pipeline.file import Step
from poise.pipeline.work import Chain, Dataset, Trained, Work, local
from poise.recipe import Recipe, load_recipe
from poise.recipe_draft import Draft
from poise.recipe_objective import objective_class
from poise.recipe_sections import DATA_KEYS
from poise.sources.tables import CURATION

OF_A_MODEL = ("model_name_or_path", "model_revision", "tokenizer_name_or_path")


def plan(step: Step, chain: Chain) -> Work:
    """Resolve a training; RecipeError names everything wrong with its recipe and keys."""
    dataset = _dataset(step, chain)
    recipe = load_recipe(step.verb, step.recipe, stage=lambda draft: _add_stage(draft, step, chain, dataset))
    sections = recipe.sections()
    del sections["training"]["output_dir"], sections["poise"]["reference_cache"], sections["poise"]["ignore"]
    label = _label(recipe.verb, chain)
    trained = Trained(step.name, label, recipe, step.folder)
    return Work(
        values={"verb": recipe.verb, **sections},
        reads=_reads(recipe),
        writes=(step.folder / "model", step.folder / "answers"),
        after=chain.with_folder(
            step.folder,
            model=str(step.folder / "model"),
            made_by=step.name,
            is_adapter=recipe.model.use_peft,
            trained=(*chain.trained, trained),
        ),
        run=lambda resume: _run(recipe, step.folder, resume),
        notes=tuple(str(note) for note in recipe.notes),
    )


def _add_stage(draft: Draft, step: Step, chain: Chain, dataset: Dataset | None) -> None:
    """Lay the pipeline's keys, what the stages before give, and the stage's own keys over its recipe file."""
    pipeline = chain.pipeline
    draft.add_file(pipeline.train, "pipeline")
    if chain.model is not None and "model_name_or_path" not in _given(step):
        _take_out(draft, OF_A_MODEL, f"the model is that of {chain.made_by}")
        draft.add_given({"model_name_or_path": chain.model}, chain.made_by)
    if dataset is not None:
        _take_out(draft, DATA_KEYS["dataset_name"], f"the rows are those of {dataset.stage}")
        split = {"dataset_test_split": "test"} if _has_test(dataset, step) else {}
        draft.add_given({"dataset_name": str(dataset.folder), **split}, dataset.stage)
    if pipeline.questions is not None:
        draft.add_given({"questions": pipeline.questions}, pipeline.path.name)
    draft.add_given({"output_dir": str(step.folder)}, step.name)
    draft.add_file(step.keys, "pipeline")


def _take_out(draft: Draft, keys: Any, why: str) -> None:
    for key in [key for key in keys if key in draft.settings]:
        draft.drop(key, why)


def _given(step: Step) -> set[str]:
    return {RENAMED.get(key, key) for key in step.keys.values}


def _dataset(step: Step, chain: Chain) -> Dataset | None:
    """Choose the nearest curation with rows for the objective; None where the stage or its recipe names its data."""
    if not chain.datasets or _given(step) & DATA_KEYS.keys():
        return None
    fitting = [each for each in chain.datasets if _is_built(each) and _kind(each, step)]
    if fitting:
        return fitting[-1]
    last = chain.datasets[-1]
    return last if not _is_built(last) or not _names_data(step) else None


def _names_data(step: Step) -> bool:
    """Whether the recipe file under a stage names rows."""
    from poise.recipe_yaml import read_recipe_file

    return step.recipe is not None and any(
        RENAMED.get(key, key) in DATA_KEYS for key in read_recipe_file(step.recipe).values
    )


def _is_built(dataset: Dataset) -> bool:
    return (dataset.folder / CURATION).is_file()


def _kind(dataset: Dataset, step: Step) -> Path | None:
    """Return the folder of the rows that an objective learns from, of the kind it prefers."""
    folders = (dataset.folder / "data" / kind for kind in objective_class(step.verb).rows)
    return next((folder for folder in folders if folder.is_dir()), None)


def _has_test(dataset: Dataset, step: Step) -> bool:
    if not dataset.has_test:
        return False
    folder = _kind(dataset, step)
    return folder is None or any(folder.glob("test-*.parquet"))


def _label(verb: str, chain: Chain) -> str:
    before = sum(each.recipe.verb == verb for each in chain.trained)
    return f"{verb}-{before + 1}" if before else verb


def _reads(recipe: Recipe) -> tuple[Path, ...]:
    """List what a training reads on this machine."""
    model, parts = recipe.model, (*recipe.data.train_parts, *recipe.data.test_parts)
    template = model.chat_template if model.chat_template and "{" not in model.chat_template else None
    names = (model.model_name_or_path, model.ref_model_name_or_path, model.tokenizer_name_or_path, template)
    rows = (str(Path(part.name) / "data") if (Path(part.name) / CURATION).is_file() else part.name for part in parts)
    return tuple(dict.fromkeys(local(*names, recipe.poise.questions, *rows)))


def _run(recipe: Recipe, folder: Path, resume: bool) -> dict[str, Any]:
    from poise.run import Run
    from poise.train.checkpoint import newest_checkpoint
    from poise.workflow import train_and_report

    run = Run(folder)
    if resume and run.manifest.get("status") == "done" and (folder / "model").is_dir():
        return {}  # stopped between its end and the pipeline's note of it
    resume = resume and newest_checkpoint(folder / "checkpoints") is not None
    train_and_report(recipe, resume=resume, overwrite=not resume)
    return {}
