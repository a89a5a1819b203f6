"""Collect what is published of a model: files by the allow-list, the card, evidence without answers and paths."""

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from poise.errors import ModelError
from poise.models.files import (
    ADAPTER_CONFIG,
    CONFIG,
    INDEX,
    PICKLES,
    check_plain,
    check_settings,
    check_weights,
    weight_files,
)
from poise.publish.card.about import About
from poise.publish.card.sources import is_hub_id
from poise.publish.card.write import card, without_paths
from poise.publish.licences import conflicts
from poise.publish.lineage import CURATION, MADE, PIPELINE, Lineage
from poise.publish.plan import Kind, Plan, Planned, refuse
from poise.publish.rehearsal import check_rehearsal
from poise.publish.scan import secrets_in
from poise.publish.target import Target
from poise.run import EVIDENCE, MANIFEST
from poise.sealed import SEAL, damage
from poise.secrets import hidden, hidden_within

PLAIN = (
    CONFIG, ADAPTER_CONFIG, INDEX, "generation_config.json", "quantize_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
    "tokenizer.model", "spiece.model", "chat_template.jinja", "poise_base.json", "LICENSE", "LICENSE.txt",
    "LICENSE.md", "NOTICE",
)  # fmt: skip
"""Files that are published as they lie."""
ROWS = ("*.jsonl", "*.parquet", "*.arrow", "*.csv", "*.tsv", "*.jsonl.gz", "*.zst")
"""Rows of datasets, or of samples of them."""
OURS = (SEAL, "README.md", *MADE)
"""Files that poise keeps beside a model, and what takes their place when it is published."""
VOCABULARY = "tokenizer.model"
TEXTS = ("answers", "samples", "argv", "token_histogram")
"""Parts of the evidence that stay here: prompts and answers can be rows of a dataset."""


def collect(about: About, target: Target, *, public: bool, base: str | None = None) -> Plan:
    """Plan a model; `base` is what an adapter's base is called on the Hub.

    Raises:
        RunError: something in it must not leave, or is not as it was written.
        ModelError, DivergenceError: it is no model that others could load, or failed its rehearsal.
    """
    lineage, folder = about.lineage, about.lineage.model
    check_settings(folder)
    _refuse_unwanted(folder)
    if (folder / SEAL).is_file() and (wrong := damage(folder)):
        refuse(folder, [f"it is not as the run wrote it: {wrong}"], "train or merge it again")
    check_rehearsal(folder)
    kind = _kind(folder)
    files = [*_as_they_lie(folder, kind), *_vocabulary(lineage), *_evidence(lineage)]
    if kind == "adapter":
        files = [file for file in files if file.name != ADAPTER_CONFIG]
        files.append(_adapter_config(folder, target, base))
    files.append(Planned.of_text("README.md", card(about)))
    plan = Plan(
        kind=kind,
        what=str(folder),
        target=target,
        public=public,
        files=tuple(sorted(files, key=lambda file: file.name)),
        left_out=tuple(_left_out(folder, files)),
        warnings=tuple(_warnings(about)),
        facts={"licence": about.licence or "not declared"},
    )
    _refuse_conflicts(about)
    refuse_secrets(plan)
    return plan


def refuse_secrets(plan: Plan) -> None:
    """Refuse a plan in which any file holds a secret."""
    found = [f"{file.name} holds {what}" for file in plan.files if (what := secrets_in(file))]
    refuse(Path(plan.what), found, "take it out there; if it ever was shared, revoke it")


def _kind(folder: Path) -> Kind:
    if (folder / ADAPTER_CONFIG).is_file():
        return "adapter"
    if any(folder.glob("*.gguf")) or "quantization_config" in json.loads((folder / CONFIG).read_text(encoding="utf-8")):
        return "quantized model"
    return "model"


def _refuse_unwanted(folder: Path) -> None:
    """Refuse a folder with files that could run code, or that are rows: whoever put them there meant something."""
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    pickles = [f"{path.name} can run code when it is opened" for path in files if path.suffix in PICKLES]
    rows = [
        f"{path.name} holds rows of a dataset, or looks so"
        for path in files
        if any(fnmatch(path.name, pattern) for pattern in ROWS)
    ]
    refuse(folder, [*pickles, *rows], "take these files out of the folder; poise publishes weights in safetensors")


def _as_they_lie(folder: Path, kind: Kind) -> Iterator[Planned]:
    names = [name for name in PLAIN if (folder / name).is_file()]
    ggufs = sorted(folder.glob("*.gguf"))
    for path in (*(folder / name for name in names), *ggufs):
        check_plain(folder, path)
    for name in names:
        yield Planned.of_file(name, folder / name)
    for path in ggufs:
        with path.open("rb") as opened:
            magic = opened.read(4)
        if magic != b"GGUF":
            raise ModelError(f"{path} is no GGUF file\n    to do:  make it again with poise quantize")
        yield Planned.of_file(path.name, path)
    if not ggufs or (folder / CONFIG).is_file() or kind == "adapter":
        check_weights(folder)
        for path in weight_files(folder):
            yield Planned.of_file(path.name, path)


def _vocabulary(lineage: Lineage) -> Iterator[Planned]:
    """Take the base's tokenizer.model, which converters to other formats want, where saving it again left it out."""
    from huggingface_hub import try_to_load_from_cache

    if (lineage.model / VOCABULARY).is_file() or not lineage.base or any(lineage.model.glob("*.gguf")):
        return
    path = Path(lineage.base) / VOCABULARY
    if is_hub_id(lineage.base):
        found = try_to_load_from_cache(lineage.base, VOCABULARY)
        path = Path(found) if isinstance(found, str) else path
    if path.is_file():
        check_plain(path.parent, path)
        yield Planned.of_file(VOCABULARY, path)


def _evidence(lineage: Lineage) -> Iterator[Planned]:
    for number, stage in enumerate(lineage.trainings, 1):
        place = f"evidence/{number:02d}-{stage.name}"
        if stage.recipe:
            yield Planned.of_text(f"{place}/recipe.yaml", without_paths(hidden(stage.recipe)))
        for name, values in ((MANIFEST, stage.manifest), ("ledger.json", stage.ledger), (EVIDENCE, stage.evidence)):
            if values:
                yield _json(f"{place}/{name}", values)
    for number, folder in enumerate(dict.fromkeys(lineage.curations.values()), 1):
        for name in (CURATION, "ledger.json"):
            if (folder / name).is_file():
                yield _json(f"evidence/curated-{number:02d}/{name}", json.loads((folder / name).read_text("utf-8")))
    if lineage.pipeline is not None:
        text = lineage.pipeline.read_text(encoding="utf-8")
        yield Planned.of_text(f"evidence/{PIPELINE}", without_paths(hidden(text)))
    for name, values in lineage.made.items():
        yield _json(f"evidence/{name}", values)


def _json(name: str, values: dict[str, Any]) -> Planned:
    kept = {key: value for key, value in values.items() if key not in TEXTS}
    return Planned.of_text(name, without_paths(json.dumps(hidden_within(kept), indent=2, ensure_ascii=False)) + "\n")


def _adapter_config(folder: Path, target: Target, base: str | None) -> Planned:
    """Name the adapter's base as others find it."""
    values = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    named = base or str(values.get("base_model_name_or_path") or "")
    if not target.is_folder and not is_hub_id(named):
        raise ModelError(
            f"the adapter's base is {named}, a folder of this machine\n"
            "    why:    nobody else could load the adapter\n"
            "    to do:  --base OWNER/NAME, what the same base is called on the Hub; or poise merge it first"
        )
    return Planned.of_text(ADAPTER_CONFIG, json.dumps(values | {"base_model_name_or_path": named}, indent=2) + "\n")


def _left_out(folder: Path, files: list[Planned]) -> Iterator[str]:
    taken = {file.source for file in files} | {folder / name for name in (*OURS, ADAPTER_CONFIG)}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in taken:
            yield path.relative_to(folder).as_posix()


def _warnings(about: About) -> Iterator[str]:
    if about.usage.fault and not any(about.lineage.model.glob("*.gguf")):
        yield f"the template was not verified: {about.usage.fault}"
    if not about.licence:
        yield "no licence is declared, so nobody may use it; name one with --licence"
    unknown = [each.name for each in about.sources if each.licence is None and each.hub]
    if unknown:
        yield f"the licence of {', '.join(unknown)} is not known here"
    if not about.lineage.trainings:
        yield "no run stands beside this model, so its card has no evidence"


def _refuse_conflicts(about: About) -> None:
    if about.licence:
        licences = {each.name: each.licence for each in about.sources}
        found = conflicts(about.licence, about.base_licence, licences)
        refuse(about.lineage.model, found, "name a licence that they allow with --licence, or leave that data out")
