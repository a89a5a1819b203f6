"""The sections of a recipe that are poise's own: model, data, and the trainer's few keys beside TrainingArguments.

Every key of a recipe belongs to exactly one section; the objective's class and `training_fields` are the other two.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from poise.codes import refuse_unknown


def wrong(key: str, what: str, remedy: str = "") -> PydanticCustomError:
    """Return the error of a check over several keys, to be shown at `key`."""
    return PydanticCustomError("recipe", "{what}", {"key": key, "what": what, "remedy": remedy})


def refuse_bool(value: Any) -> Any:
    """Refuse true and false where a number belongs; pydantic would read them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value


def _check_fraction(fraction: float) -> float:
    """Refuse what is no share of a dataset."""
    if 0 < fraction <= 1:
        return fraction
    repeats = ": rows are never repeated, and fractions need not add up to 1" if fraction > 1 else ""
    raise ValueError(f"the share of a dataset that is used is above 0 and at most 1, got {fraction:g}{repeats}")


def _check_held_out(size: float) -> float:
    """Below 1 a share of the rows, else a whole number of rows."""
    if 0 < size < 1 or (size >= 1 and size == int(size)):
        return size if size < 1 else int(size)
    raise ValueError(f"expected a whole number of rows, or a share of them between 0 and 1, got {size:g}")


Fraction = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_check_fraction), BeforeValidator(refuse_bool)]
HeldOut = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_check_held_out), BeforeValidator(refuse_bool)]
Dtype = Literal["bfloat16", "float16", "float32"]


class Section(BaseModel):
    """Frozen keys, none beside those listed."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelSection(Section):
    """The model, its tokenizer, and which of its weights are trained. LoRA defaults are the handbook's."""

    model_name_or_path: str = Field(min_length=1)
    model_revision: str = "main"
    tokenizer_name_or_path: str | None = None
    torch_dtype: Literal["auto"] | Dtype | None = None
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] | None = (
        None
    )
    trust_remote_code: Literal[False] = False
    chat_template: str | None = None
    """A name (chatml, zephyr, …), the path of a .jinja file, or the template itself."""
    eos_token: str | None = None
    ref_model_name_or_path: str | None = None
    """The reference; None is the policy as it was when the objective began."""
    disable_dropout: bool | None = None
    """None leaves it to the objective."""
    use_peft: bool = False
    lora_r: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    lora_target_modules: list[str] | str | None = None
    """None leaves it to peft, which knows each architecture."""
    lora_target_parameters: list[str] | None = None
    lora_modules_to_save: list[str] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    adapter_continuation: Literal["auto", "same", "merge", "stack"] = "auto"
    """How training goes on where model_name_or_path is an adapter; auto is same, or merge for another shape."""
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    use_bnb_nested_quant: bool = False
    bnb_4bit_compute_dtype: Dtype | None = None
    bnb_4bit_quant_storage: Dtype | Literal["uint8"] | None = None

    @property
    def tuning(self) -> Literal["full", "LoRA"]:
        """Say whether all weights are trained or an adapter."""
        return "LoRA" if self.use_peft else "full"

    @model_validator(mode="after")
    def _check_quantization(self) -> "ModelSection":
        if self.load_in_4bit and self.load_in_8bit:
            raise wrong("load_in_8bit", "load_in_4bit and load_in_8bit exclude each other", "keep one of the two")
        if (self.load_in_4bit or self.load_in_8bit) and not self.use_peft:
            key = "load_in_4bit" if self.load_in_4bit else "load_in_8bit"
            raise wrong(key, "quantized weights cannot be trained, only an adapter on them", "add use_peft: true")
        return self


class DatasetEntry(Section):
    """One dataset of a `dataset_mixture`; TRL's names for the same things are read too."""

    id: str = Field(min_length=1, validation_alias=AliasChoices("id", "path"))
    config: str | None = Field(None, validation_alias=AliasChoices("config", "name"))
    split: str = "train"
    columns: list[str] | None = None
    weight: Fraction = Field(1.0, validation_alias=AliasChoices("weight", "fraction"))
    """The share of its rows that is used."""
    count: int | None = Field(None, ge=1)
    """So many of its rows instead, or all where there are fewer."""
    revision: str | None = None

    @model_validator(mode="after")
    def _check_size(self) -> "DatasetEntry":
        if self.count is not None and "weight" in self.model_fields_set:
            raise ValueError("count and weight both say how many rows are used; keep one")
        return self


class DatasetMixture(Section):
    """Datasets joined into one, from which a test split may be held out."""

    datasets: list[DatasetEntry] = Field(min_length=1)
    seed: int = Field(0, ge=0)
    test_split_size: HeldOut | None = None


@dataclass(frozen=True)
class DatasetPart:
    """One split of one dataset, and the share of it that is used."""

    name: str
    config: str | None
    split: str
    revision: str | None = None
    columns: tuple[str, ...] | None = None
    fraction: float = 1.0
    count: int | None = None

    def used_of(self, rows: int) -> int:
        """Say how many of its rows are used."""
        return min(rows, self.count) if self.count is not None else int(self.fraction * rows)


DATA_KEYS: dict[str, frozenset[str]] = {
    "dataset_name": frozenset(
        ("dataset_name", "dataset_config", "dataset_revision", "dataset_train_split", "dataset_test_split")
    ),
    "dataset_mixer": frozenset(("dataset_mixer", "dataset_splits", "dataset_configs")),
    "dataset_mixture": frozenset(("dataset_mixture",)),
}
"""The three ways of naming data, each with the keys that go with it."""

MIXER_SEED = 42
"""The classic mixer shuffles with 42, whatever the recipe's seed."""


class DataSection(Section):
    """Which rows are read, and what becomes of those that do not fit."""

    dataset_name: str | None = None
    dataset_config: str | None = None
    dataset_revision: str | None = None
    dataset_train_split: str = "train"
    dataset_test_split: str | None = None
    dataset_mixer: dict[str, Fraction] | None = Field(None, min_length=1)
    """Dataset -> the share of it to train on; test splits are never cut."""
    dataset_splits: list[str] = Field(["train", "test"], min_length=1)
    dataset_configs: list[str] | None = None
    dataset_mixture: DatasetMixture | None = None
    text_column: str = "text"
    on_bad_row: Literal["error", "drop"] = "error"
    max_length: int = Field(2048, ge=8)
    """Tokens of a row; 1024 by default for preference pairs, 2048 otherwise, as in the handbook."""
    max_prompt_length: int | None = Field(None, ge=1)
    overlong: Literal["drop", "truncate_prompt"] = "drop"
    packing: bool = False
    max_train_samples: int | None = Field(None, ge=1)

    @property
    def way(self) -> str:
        """The key that names the data: dataset_name, dataset_mixer or dataset_mixture."""
        return next(key for key in DATA_KEYS if getattr(self, key) is not None)

    @property
    def train_parts(self) -> tuple[DatasetPart, ...]:
        """What to train on: of each part, the fraction that comes first after a shuffle with `mix_seed`."""
        if self.dataset_mixture:
            return tuple(_mixture_part(entry) for entry in self.dataset_mixture.datasets)
        if self.dataset_name:
            return (self._single(self.dataset_train_split),)
        return tuple(self._mixer_parts("train"))

    @property
    def test_parts(self) -> tuple[DatasetPart, ...]:
        """What to evaluate on, whole; empty where `test_split_size` holds rows out of the training parts."""
        if self.dataset_mixer:
            return tuple(self._mixer_parts("test"))
        return (self._single(self.dataset_test_split),) if self.dataset_test_split else ()

    @property
    def mix_seed(self) -> int:
        """Seed of the shuffles and of the held-out split."""
        return self.dataset_mixture.seed if self.dataset_mixture else MIXER_SEED

    @property
    def test_split_size(self) -> float | None:
        """Rows (or the share of rows, below 1) to hold out of the joined training parts."""
        return self.dataset_mixture.test_split_size if self.dataset_mixture else None

    @property
    def has_test_rows(self) -> bool:
        """Whether there is anything to evaluate on."""
        return bool(self.test_parts) or self.test_split_size is not None

    def _single(self, split: str) -> DatasetPart:
        return DatasetPart(self.dataset_name or "", self.dataset_config, split, self.dataset_revision)

    def _mixer_parts(self, kind: Literal["train", "test"]) -> list[DatasetPart]:
        """Return one part for every dataset and split of a kind; a dataset's fraction holds for all its splits."""
        mixer = self.dataset_mixer or {}
        configs: list[str | None] = [*(self.dataset_configs or [])] or [None] * len(mixer)
        return [
            DatasetPart(name, config, split, fraction=fraction if kind == "train" else 1.0)
            for (name, fraction), config in zip(mixer.items(), configs, strict=True)
            for split in self.dataset_splits
            if _split_kind(split) == kind
        ]

    @model_validator(mode="after")
    def _check_one_way(self) -> "DataSection":
        used = [key for key in DATA_KEYS if getattr(self, key) is not None]
        if not used:
            raise wrong("dataset_name", "no data is named", "add dataset_name, dataset_mixer or dataset_mixture")
        if len(used) > 1:
            raise wrong(used[1], f"data is named in {len(used)} ways: {', '.join(used)}", "keep one of them")
        for way, keys in DATA_KEYS.items():
            for key in sorted(keys & self.model_fields_set):
                if way != used[0] and getattr(self, key) is not None:
                    raise wrong(key, f"{key} goes with {way}, but this recipe names its data in {used[0]}")
        return self

    @model_validator(mode="after")
    def _check_mixer(self) -> "DataSection":
        if not self.dataset_mixer:
            return self
        configs, datasets = self.dataset_configs, len(self.dataset_mixer)
        if configs is not None and len(configs) != datasets:
            what = f"dataset_configs names {len(configs)} configs for {datasets} datasets"
            raise wrong("dataset_configs", what, "name one for each dataset of dataset_mixer, in the same order")
        for split in self.dataset_splits:
            if _split_kind(split) is None:
                what = f"the split {split!r} has neither 'train' nor 'test' in its name, so its use is unknown"
                raise wrong("dataset_splits", what, "use dataset_mixture, or dataset_name with dataset_test_split")
        if not self.train_parts:
            raise wrong("dataset_splits", "none of the splits is for training", "name one with 'train' in it")
        return self

    @model_validator(mode="after")
    def _check_mixture(self) -> "DataSection":
        entries = self.dataset_mixture.datasets if self.dataset_mixture else []
        columns = {frozenset(entry.columns) for entry in entries if entry.columns is not None}
        if len(columns) > 1:
            shown = " and ".join(sorted(", ".join(sorted(names)) for names in columns))
            raise wrong("dataset_mixture", f"the datasets have different columns: {shown}", "name the same columns")
        return self

    @model_validator(mode="after")
    def _check_lengths(self) -> "DataSection":
        if self.max_prompt_length is not None and self.max_prompt_length >= self.max_length:
            what = (
                f"max_prompt_length {self.max_prompt_length} leaves no room for an answer in {self.max_length} tokens"
            )
            raise wrong("max_prompt_length", what, "make it smaller than max_length")
        return self


class PoiseSection(Section):
    """The keys of poise's own trainer."""

    tokens_per_micro_batch: int | None = Field(None, ge=1)
    """Memory knob: tokens in one forward; None takes the device's default. The optimizer step stays the recipe's."""
    prefix_sharing: Literal["auto", "on", "off"] = "auto"
    on_divergence: Literal["stop", "rollback", "warn"] = "stop"
    """What follows when the losses go wrong; what is no number never gets past `stop` or `rollback`. A run that goes on
    spends its time on a ruined model, and one that goes back trains on other rows than it was given: both are to be
    asked for."""
    router_aux_loss_coef: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Weight of a mixture of experts' router loss; None takes the model's own where its config switches the loss on."""
    reference_cache: bool | str = True
    """Keep the reference's log-probabilities for later runs; a path says where."""
    questions: str | None = None
    """A .jsonl file of questions asked before and after training."""
    question_count: int = Field(8, ge=0)
    max_new_tokens: int = Field(64, ge=1)
    wandb_project: str | None = None
    """What Weights & Biases is told, where `report_to` names it; its environment variables win."""
    wandb_entity: str | None = None
    wandb_run_group: str | None = None
    ignore: Annotated[list[str], AfterValidator(refuse_unknown)] = []
    """Codes of warnings and errors that are meant; `poise explain` lists them, and those that cannot be ignored."""


def _mixture_part(entry: DatasetEntry) -> DatasetPart:
    columns = None if entry.columns is None else tuple(entry.columns)
    return DatasetPart(entry.id, entry.config, entry.split, entry.revision, columns, entry.weight, entry.count)


def _split_kind(split: str) -> Literal["train", "test"] | None:
    """Tell a split's use by its name, as the handbook's mixer does."""
    if "train" in split:
        return "train"
    return "test" if "test" in split else None
