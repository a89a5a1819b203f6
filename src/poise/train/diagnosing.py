"""Say while a preference run trains what its numbers mean, each thing once: see `poise.diagnosis`."""

from typing import Any

from transformers import TrainerCallback

from poise import progress
from poise.diagnosis import diagnose
from poise.recipe import Recipe
from poise.run import Run

DIAGNOSES = "diagnoses"
"""In the manifest: what was said, by kind."""


class Diagnose(TrainerCallback):
    """Look at the log lines as they come; those of before a resume are in metrics.jsonl."""

    def __init__(self, recipe: Recipe, run: Run) -> None:
        self.recipe, self.run = recipe, run
        self._lines: list[dict[str, Any]] = []
        self._said: set[str] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take up what was logged and said before the checkpoint that is gone on from."""
        self._lines = [line for line in self.run.metrics() if "loss" in line and line["step"] <= state.global_step]
        self._said = set(self.run.manifest.get(DIAGNOSES, {}))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Say what is new."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        self._lines.append({"step": state.global_step, **logs})
        warm_up = args.get_warmup_steps(state.max_steps)
        beta = getattr(self.recipe.objective, "beta", None) if self.recipe.objective.needs_reference else None
        for found in diagnose(self.recipe.verb, self._lines, beta=beta, warmup_steps=warm_up):
            if found.kind not in self._said:
                self._said.add(found.kind)
                progress.say(f"warning: {found.said}")
                manifest = self.run.manifest
                self.run.update_manifest(
                    **{DIAGNOSES: {**manifest.get(DIAGNOSES, {}), found.kind: found.said}},
                    warnings=[*manifest.get("warnings", []), found.said],
                )
