"""Name one or several datasets the way a recipe does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from poise.translate.tool import Setting


@dataclass(frozen=True)
class Named:
    """One dataset as the other tool named it."""

    id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    weight: float = 1.0


def named_data(datasets: Sequence[Named], held_out: float, seed: int, origin: str) -> Iterator[Setting]:
    """Yield `dataset_name` and its keys for one dataset, else a `dataset_mixture`; `held_out` is a share or a count."""
    if len(datasets) == 1 and not held_out and datasets[0].weight == 1:
        only = datasets[0]
        yield Setting("dataset_name", only.id, origin)
        for key, value in (("dataset_config", only.config), ("dataset_revision", only.revision)):
            if value:
                yield Setting(key, value, origin)
        yield Setting("dataset_train_split", only.split, origin)
    elif datasets:
        mixture: dict[str, Any] = {"datasets": [_entry(each) for each in datasets], "seed": seed}
        if held_out:
            mixture["test_split_size"] = int(held_out) if held_out >= 1 else held_out
        yield Setting("dataset_mixture", mixture, origin)


def _entry(named: Named) -> dict[str, Any]:
    whole = {
        "id": named.id, "config": named.config, "split": named.split, "revision": named.revision,
        "weight": named.weight if named.weight != 1 else None,
    }  # fmt: skip
    return {key: value for key, value in whole.items() if value is not None}


def evenly(times: float, epochs: float) -> float:
    """Say `times` an epoch as a share of all steps, which is what save_steps and eval_steps take below 1."""
    return round(1 / (times * epochs), 6)
