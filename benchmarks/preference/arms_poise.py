"""The arms of poise: as it comes, with every sequence carrying its own prompt, and with every row alone."""

import time
from importlib import import_module
from typing import Any

from preference.job import SETTINGS, Job, Outcome
from preference.measure import Steps

KEYS: dict[str, dict[str, Any]] = {
    "poise": {},
    "poise-unshared": {"prefix_sharing": "off"},
    "poise-unpacked": {"prefix_sharing": "on", "tokens_per_micro_batch": 1},
}


def load(job: Job) -> None:
    """Import what the run imports, so that the clock does not see it."""
    for name in ("peft", "poise.recipe", "poise.run", "poise.train.train"):
        import_module(name)
    if job.cell.tuning == "qlora":
        import_module("bitsandbytes")


def run(job: Job) -> Outcome:
    """Train one epoch through `poise.train.train`, as the command line would."""
    import poise.train.train as training
    from poise.recipe import load_recipe
    from poise.run import Run

    steps = Steps(job.device)

    def ask(when: str, *_: Any) -> None:
        if when == "before":
            steps.begin()

    folder = Run(job.folder / f"run-{str(job.cell).replace('/', '-')}")
    started = time.perf_counter()
    recipe = load_recipe(job.cell.method, None, defaults={**recipe_keys(job), "output_dir": str(folder.path)})
    training.train(recipe, folder, ask=ask)
    seconds = time.perf_counter() - started
    lines = [line for line in folder.metrics() if "loss" in line]
    reference = folder.manifest.get("reference")
    return Outcome(
        seconds,
        steps.seconds,
        reference["seconds"] if reference else None,
        job.facts["unshared_tokens"] if job.cell.arm == "poise-unshared" else job.layout.tokens,
        [line["loss"] for line in lines],
    )


def recipe_keys(job: Job) -> dict[str, Any]:
    """Return the recipe of a cell."""
    adapted = job.cell.tuning != "full"
    keys = {
        "model_name_or_path": str(job.folder / ("lora" if adapted else "full")),
        "use_peft": adapted,
        "dataset_name": str(job.folder / f"{job.rows}.jsonl"),
        "max_length": job.facts["max_length"],
        "reference_cache": False,
        **job.training,
        **SETTINGS[job.cell.method],
        **KEYS[job.cell.arm],
    }
    if job.cell.tuning == "qlora":
        keys |= {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True}
    return keys
