"""The arms of TRL 1.16: its defaults, and the flags that make it fastest for the same training.

`trl-best`: no activation checkpointing; for DPO the reference computed beforehand. What else would be faster does not
apply: DPO's padding_free is switched off in this version, Liger's kernels and FlashAttention need CUDA libraries, and
grouping rows by length would train other batches. SFT has two more: `trl-flat` is padding_free, and `trl-packed` packs
with best-fit decreasing, which is padding-free too. Both rely on transformers' sdpa to keep conversations apart by
their positions, which computes the whole square of a flat row, so they are no faster where FlashAttention is missing.
A packed row is as long as eight mean conversations, so that an epoch has as many updates; which conversations meet
differs, so its losses differ.

TRL's ORPO takes the likelihood term over the prompt's tokens too and weighs tokens, where the paper (arXiv:2403.07691,
equation 6) and poise take the answer's and weigh pairs: those losses differ too. With QLoRA TRL keeps the adapter in
bfloat16, poise in float32.
"""

import time
from importlib import import_module
from typing import Any

from preference.job import SETTINGS, Job, Outcome
from preference.measure import Steps
from preference.prepare import LORA

BEST: dict[str, dict[str, Any]] = {
    "dpo": {"precompute_ref_log_probs": True},
    "orpo": {},
    "simpo": {},
    "sft": {},
}
ALWAYS: dict[str, dict[str, Any]] = {
    "simpo": {"loss_type": "simpo", "cpo_alpha": 0.0},
    "sft": {"assistant_only_loss": True},
}


def load(job: Job) -> None:
    """Import what the run imports, so that the clock does not see it."""
    import datasets

    classes(job.cell.method)
    for name in ("peft", "transformers", *(["bitsandbytes"] if job.cell.tuning == "qlora" else [])):
        import_module(name)
    datasets.disable_caching()


def run(job: Job) -> Outcome:
    """Train one epoch as a script over TRL would."""
    steps = Steps(job.device)
    config_class, trainer_class = classes(job.cell.method)
    started = time.perf_counter()
    output = job.folder / f"run-{str(job.cell).replace('/', '-')}"
    arguments = config_class(output_dir=str(output), disable_tqdm=True, **flags(job))
    trainer = _trainer(job, arguments, trainer_class)
    tokens = _count_tokens(trainer)
    reference = getattr(trainer, "reference_seconds", None)
    steps.begin()
    trainer.train()
    trainer.save_model(str(output / "model"))
    seconds = time.perf_counter() - started
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return Outcome(seconds, steps.seconds, reference, tokens[0], losses)


def flags(job: Job) -> dict[str, Any]:
    """Return the arguments of a cell's configuration."""
    method, arm = job.cell.method, job.cell.arm
    chosen = job.training | SETTINGS[method] | ALWAYS.get(method, {}) | {"max_length": job.facts["max_length"]}
    if arm == "trl":
        return chosen
    chosen["gradient_checkpointing"] = False
    if arm == "trl-flat":
        return chosen | {"padding_free": True, "max_length": None}
    if arm == "trl-packed":
        packing = {"packing": True, "packing_strategy": "bfd", "max_length": job.facts["packed_length"]}
        return chosen | packing | {"per_device_train_batch_size": 1}
    return chosen | BEST[method]


def classes(method: str) -> tuple[Any, Any]:
    """Return TRL's configuration and trainer of a method."""
    if method == "dpo":
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer

        return DPOConfig, _timing_reference(DPOTrainer)
    if method == "sft":
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        return SFTConfig, SFTTrainer
    if method == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOConfig, ORPOTrainer
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    return CPOConfig, CPOTrainer


def _timing_reference(trainer_class: Any) -> Any:
    """Return a subclass that knows how long its reference pass before training took."""

    class Timed(trainer_class):
        reference_seconds: float | None = None

        def _precompute_ref_logps(self, *arguments: Any, **more: Any) -> Any:
            started = time.perf_counter()
            found = super()._precompute_ref_logps(*arguments, **more)
            self.reference_seconds = time.perf_counter() - started
            return found

    return Timed


def _trainer(job: Job, arguments: Any, trainer_class: Any) -> Any:
    import datasets
    from peft import LoraConfig, load_peft_weights, set_peft_model_state_dict
    from transformers import AutoTokenizer

    adapted = job.cell.tuning != "full"
    trainer = trainer_class(
        _model(job),
        args=arguments,
        train_dataset=datasets.load_dataset("json", data_files=str(job.folder / f"{job.rows}.jsonl"), split="train"),
        processing_class=AutoTokenizer.from_pretrained(job.folder / "full"),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA) if adapted else None,
    )
    if adapted:
        set_peft_model_state_dict(trainer.model, load_peft_weights(str(job.folder / "lora"), device=job.device))
    return trainer


def _model(job: Job) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if job.cell.tuning != "qlora":
        return AutoModelForCausalLM.from_pretrained(job.folder / "full", dtype="float32")
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=job.cell.dtype,
    )
    return AutoModelForCausalLM.from_pretrained(
        job.folder / "full", dtype="float32", quantization_config=quantization, device_map={"": job.device}
    )


def _count_tokens(trainer: Any) -> list[int]:
    """Count the tokens, padding too, of every batch that is trained on."""
    total, collate = [0], trainer.data_collator

    def counting(rows: list[Any]) -> Any:
        batch = collate(rows)
        total[0] += computed_tokens(batch)
        return batch

    trainer.data_collator = counting
    return total


def computed_tokens(batch: Any) -> int:
    """Size of what the model is given: one tensor, or chosen and rejected padded to the longer of the two."""
    if "input_ids" in batch:
        return batch["input_ids"].numel()
    sides = batch["chosen_input_ids"], batch["rejected_input_ids"]
    return sum(side.shape[0] for side in sides) * max(side.shape[1] for side in sides)
