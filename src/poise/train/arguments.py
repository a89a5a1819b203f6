"""transformers' arguments from a recipe, with what poise owns set by poise."""

from transformers import TrainingArguments

from poise import progress
from poise.recipe import Recipe
from poise.run import Run
from poise.secrets import redacted
from poise.train import processes
from poise.train.model import Hardware
from poise.train.optimizer import choose_optimizer
from poise.train.prepare import rows_per_step
from poise.train.trackers import ToldArguments


def training_arguments(recipe: Recipe, run: Run, hardware: Hardware) -> TrainingArguments:
    """Build transformers' arguments from the recipe, with what poise owns set by poise."""
    chosen = {key: value for key, value in recipe.training.items() if value is not None}
    chosen |= {
        "output_dir": str(run.path / "checkpoints"),
        "per_device_train_batch_size": rows_per_step(recipe),
        "gradient_accumulation_steps": 1,
        "activation_checkpointing": False,
        "activation_checkpointing_kwargs": None,
        "bf16": hardware.autocast,
        "optim": choose_optimizer(recipe.training["optim"], hardware.device).name,
        "use_cpu": hardware.device.type == "cpu",
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "neftune_noise_alpha": None,  # the Scorer adds it, by each sequence's own length
        "label_names": [],
    }
    if processes.count() > 1:  # every pass reaches every trained weight; to look for others costs time in each
        chosen.setdefault("ddp_find_unused_parameters", False)
    chosen |= {key: redacted(chosen[key]) for key in ("run_name", "project") if key in chosen}
    arguments = ToldArguments(**chosen)
    if arguments.n_gpu > 1:  # transformers would copy the model to all of them in every step
        progress.say(
            f"note: one of {arguments.n_gpu} GPUs is used; for all of them: "
            f"poise {recipe.verb} … --launch recipes/accelerate/ddp.yaml"
        )
        arguments._n_gpu = 1  # pyright: ignore[reportPrivateUsage]
    return arguments
