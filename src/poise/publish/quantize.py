"""Write a model with fewer bits, for transformers or llama.cpp, and rehearse it before it is handed on.

    model ──> does the run's prompts and rows ──┐
      └──> quantized ──> staged ──> reopened ──> does the same ──> rehearsal.json ──> renamed

What is outside of the tolerance is kept to be looked at, told with exit code 3, and refused by whatever publishes.
"""

import copy
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from poise import progress
from poise.batch.render import Renderer
from poise.batch.tokens import prepare_tokenizer
from poise.errors import DivergenceError, ModelError, RecipeError, RunError
from poise.models.open import open_causal_lm, open_config, open_tokenizer
from poise.publish import quantizers
from poise.publish.gguf import write as gguf
from poise.publish.gguf.read import read_stops, read_tokenizer, read_weights
from poise.publish.gguf.vocabulary import missing_merges
from poise.publish.material import LONGEST, Material, material_of, run_of
from poise.publish.rehearsal import WEIGHTS, Rehearsal, Tolerance
from poise.publish.rehearse import NEW_TOKENS, compared, look, look_again
from poise.publish.sides import InLlamaCpp, InTransformers, Side, llama_cpp_is_installed
from poise.recipe_sections import ModelSection
from poise.run import file_sha256, model_folder
from poise.train.adapters import adapter_config
from poise.train.model import choose_hardware, load_tokenizer, quiet_libraries

TOLERANCES = {
    "gguf-f16": Tolerance(agreement=0.995, perplexity=0.005),
    "gguf-q8_0": Tolerance(agreement=0.98, perplexity=0.01),
    "gguf-q4_0": Tolerance(agreement=0.85, perplexity=0.1),
    "int8": Tolerance(agreement=0.98, perplexity=0.01),
    "int4": Tolerance(agreement=0.85, perplexity=0.1),
    "nf4": Tolerance(agreement=0.85, perplexity=0.1),
    "gptq": Tolerance(agreement=0.85, perplexity=0.1),
}
"""Perplexity: about twice what llama.cpp publishes for a Llama of 7 billion weights at 4 bits (4 %), and room for small
models at 8 bits (0.01 %); agreement was chosen."""
KINDS = tuple(TOLERANCES)


def quantize(
    model: Path,
    to: str,
    out: Path | None = None,
    *,
    run: Path | None = None,
    least_agreement: float | None = None,
    most_perplexity: float | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Quantize a model folder, or that of a run, and rehearse it; returns what rehearsal.json holds and the folder.

    Raises:
        ModelError: the model is an adapter or quantized already, or something is missing for this kind.
        DivergenceError: the rehearsal is outside of the tolerance; the folder is kept.
    """
    quiet_libraries()
    folder = model_folder(model)
    out = out or _default_out(model, to)
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise RunError(f"{out} is not empty\n    to do:  replace it with --overwrite, or name another --out")
    work = _Work(folder, to, model)
    staging = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        allowed = _tolerance(to, least_agreement, most_perplexity)
        seen = work.make(staging, run or run_of(model), allowed)
        seen.write(staging)
        shutil.rmtree(out, ignore_errors=True)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _tell(seen, out)
    return {"folder": str(out), **asdict(seen), "within_tolerance": True}


class _Work:
    """One model on its way to fewer bits."""

    def __init__(self, folder: Path, to: str, named: Path) -> None:
        """Refuse what cannot be, before anything heavy is loaded."""
        if to not in KINDS:
            raise RecipeError(f"--to {to} is none of {', '.join(KINDS)}")
        if not folder.is_dir():
            raise ModelError(f"there is no folder {folder}\n    to do:  name a run, or the folder of a model")
        if adapter_config(str(folder), "main") is not None:
            raise ModelError(
                f"{named} is an adapter\n    why:    bits are taken from whole weights, after the adapter is merged\n"
                f"    to do:  poise merge {named}, then poise quantize the merged folder"
            )
        self.folder, self.to, self.name = folder, to, named.resolve().name
        self.section = ModelSection.model_validate({"model_name_or_path": str(folder), "torch_dtype": "auto"})
        self.hardware = choose_hardware(self.section, bf16=False)
        self.tokenizer = load_tokenizer(self.section)
        config = open_config(str(folder))
        if getattr(config, "quantization_config", None) is not None:
            raise ModelError(f"{folder} is quantized already\n    to do:  name the model that it was made from")
        if self.is_gguf:
            gguf.refuse_unwritable(config, self.tokenizer)
        else:
            quantizers.refuse_unmakeable(to, self.hardware.device.type)
        self.prepared = prepare_tokenizer(copy.deepcopy(self.tokenizer), None)
        self.rows = config.get_text_config().vocab_size
        self.notes: list[str] = []

    @property
    def is_gguf(self) -> bool:
        return self.to in gguf.KINDS

    def make(self, staging: Path, run: Path | None, tolerance: Tolerance) -> Rehearsal:
        """Write the export into `staging` and rehearse it."""
        calibration = quantizers.CALIBRATION_ROWS if self.to == "gptq" else 0
        material = material_of(run, Renderer(self.prepared), self.notes, calibration)
        if not self.is_gguf:
            quantizers.refuse_uncalibrated(self.to, material.calibration)
        on_cpu = self.hardware.device.type == "cpu"
        model = self._load(self.folder, torch.float32 if on_cpu else "auto")  # near ties are no matter of rounding
        stops = self._stop_ids(model)
        before = look(InTransformers(model, self.tokenizer, stops, stops), material, stops)
        side = (self._gguf if self.is_gguf else self._folder)(model, stops, staging, material)
        del model
        after = look_again(side, material, stops, before)
        files = {str(path.relative_to(staging)): file_sha256(path) for path in sorted(staging.rglob("*"))
                 if path.is_file()}  # fmt: skip
        assert any(Path(name).suffix in WEIGHTS for name in files)
        facts = {"format": self.to, "model": str(self.folder), "files": files, "notes": self.notes}
        return compared(before, after, material, self.tokenizer, stops, tolerance, facts)

    def _load(self, folder: Path, dtype: Any = "auto") -> Any:
        return open_causal_lm(str(folder), dtype=dtype, device_map={"": self.hardware.device})

    def _stop_ids(self, model: Any) -> tuple[int, ...]:
        """Return where answers must stop: at the end of the template's turns, and where the settings say."""
        named = [*self.prepared.stop_ids, *_settings_stops(model)]
        stops = dict.fromkeys(index for index in named if index < self.rows)
        if not stops:
            raise ModelError(f"{self.folder} has no token that ends an answer\n    to do:  set its eos_token_id")
        return tuple(stops)

    def _gguf(self, model: Any, stops: tuple[int, ...], staging: Path, _: Material) -> Side:
        """Write a file and open it: in llama.cpp, or else its weights in transformers."""
        file = staging / f"{self.name}-{self.to.removeprefix('gguf-')}.gguf"
        gguf.write_gguf(model, self.tokenizer, stops, file, self.to, self.name)
        if llama_cpp_is_installed():
            return InLlamaCpp(file, LONGEST + NEW_TOKENS)
        self.notes.append("llama.cpp was not run, which pip install llama-cpp-python would change")
        if missing := missing_merges(self.tokenizer):
            self.notes.append(f"llama.cpp may cut text otherwise: it joins {missing:,} pairs that are no merges here")
        tokenizer = read_tokenizer(self.tokenizer, file)
        return InTransformers(
            read_weights(model, file), tokenizer, stops, read_stops(file), ", over the GGUF's weights"
        )

    def _folder(self, model: Any, stops: tuple[int, ...], staging: Path, material: Material) -> Side:
        """Write a folder and open it as those who get it will."""
        group = quantizers.group_of(model, self.to)
        odd = quantizers.odd_layers(model, group)
        if odd:
            self.notes.append(f"{len(odd)} layers stay whole: no group of weights divides their rows")
        model.to("meta")  # two models need not fit
        device = self.hardware.device
        quantizers.write_quantized(self.folder, staging, self.to, device, group, odd, material.calibration)
        self.tokenizer.save_pretrained(staging)
        settings = copy.deepcopy(model.generation_config)
        settings.eos_token_id = list(stops)
        settings.save_pretrained(staging)
        written = self._load(staging)
        return InTransformers(written, open_tokenizer(str(staging)), stops, _settings_stops(written))


def _settings_stops(model: Any) -> tuple[int, ...]:
    named = model.generation_config.eos_token_id
    return tuple(named) if isinstance(named, list) else () if named is None else (named,)


def _default_out(model: Path, to: str) -> Path:
    return model.resolve().parent / f"{model.resolve().name}-{to}"


def _tolerance(to: str, agreement: float | None, perplexity: float | None) -> Tolerance:
    allowed = TOLERANCES[to]
    if agreement is not None:
        allowed = replace(allowed, agreement=agreement)
    return allowed if perplexity is None else replace(allowed, perplexity=perplexity)


def _tell(seen: Rehearsal, out: Path) -> None:
    """Say what was seen; DivergenceError where it is too far from the model."""
    before, after = seen.perplexity
    progress.say(
        f"rehearsed: {out} · {seen.rehearsed_by} · next token the same {seen.agreement:.2%} of {seen.tokens:,}, "
        f"answers the same {seen.same_answers} of {seen.prompts}, perplexity {before:.4g} → {after:.4g} "
        f"({seen.perplexity_over}), stop by themselves {seen.stop_rate[0]:.0%} → {seen.stop_rate[1]:.0%}, "
        f"prompts rendered the same {seen.same_templates} of {seen.prompts}"
    )
    for note in seen.notes:
        progress.say(f"note: {note}")
    if faults := seen.faults():
        raise DivergenceError(
            f"{out} is kept, but it is outside of the tolerance: {'; '.join(faults)}\n"
            "    why:    it does not answer as the model that it was made from, so it will not be published\n"
            "    to do:  take more bits, or --least-agreement and --most-perplexity where this is good enough"
        )
