"""Open what answers or judges: a model folder or Hub id in this process, or `URL#NAME` on a server."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poise.errors import InterruptedRun, RecipeError, RunError
from poise.evaluate.endpoint import open_endpoint
from poise.evaluate.engine import Engine, InProcess, Served
from poise.evaluate.journal import Journal
from poise.evaluate.server import ATTEMPTS, CONCURRENCY, Server
from poise.run import MANIFEST, Run

REPLIES = "replies.jsonl"


def open_engine(
    model: str,
    folder: Path,
    *,
    chat_template: str | None = None,
    batch_size: int = 32,
    concurrency: int = CONCURRENCY,
    attempts: int = ATTEMPTS,
) -> Engine:
    """Load a model or that of a run, or find it on a server, whose raw replies then stand in `folder`."""
    if is_served(model):
        return Served(open_server(model, folder, concurrency=concurrency, attempts=attempts))
    return _load(_of_a_run(model), chat_template, batch_size)


def _of_a_run(model: str) -> str:
    run = Path(model)
    if not (run / MANIFEST).is_file():
        return model
    if not (run / "model").is_dir():
        raise RunError(f"{run} holds no model\n    to do:  finish it with --resume, or name another run")
    return str(run / "model")


def _load(model: str, chat_template: str | None, batch_size: int) -> InProcess:
    from poise.batch.render import Renderer
    from poise.batch.tokens import prepare_tokenizer
    from poise.recipe_sections import ModelSection
    from poise.train.model import (
        choose_hardware,
        grow_vocabulary,
        load_model,
        load_tokenizer,
        quiet_libraries,
        set_stop_tokens,
    )

    quiet_libraries()
    section = ModelSection.model_validate({"model_name_or_path": model, "chat_template": chat_template})
    hardware = choose_hardware(section, bf16=None)
    prepared = prepare_tokenizer(load_tokenizer(section), chat_template)
    loaded = load_model(section, hardware)
    grow_vocabulary(loaded.model, prepared)
    set_stop_tokens(loaded.model, prepared)
    identity = {
        "sha256": loaded.sha256,
        "chat_template": prepared.template_hash,
        "stop_ids": list(prepared.stop_ids),
        "hardware": str(hardware),
    }
    return InProcess(model, identity, loaded.model.to(hardware.device), Renderer(prepared), batch_size)


def load_bare(model: str, chat_template: str | None) -> tuple[Any, Any, dict[str, Any]]:
    """Load a model and its tokenizer for texts as they stand, or for a template: `own`, a shipped name or a file.

    Returns both and what decides their answers. A tokenizer without a template is left as it is.
    """
    from poise.batch.tokens import prepare_tokenizer
    from poise.recipe_sections import ModelSection
    from poise.train.model import choose_hardware, grow_vocabulary, load_model, load_tokenizer, quiet_libraries

    quiet_libraries()
    named = None if chat_template == "own" else chat_template
    section = ModelSection.model_validate({"model_name_or_path": model, "chat_template": named})
    hardware = choose_hardware(section, bf16=None)
    tokenizer = load_tokenizer(section)
    prepared = prepare_tokenizer(tokenizer, named) if chat_template else None
    loaded = load_model(section, hardware)
    if prepared is not None:
        grow_vocabulary(loaded.model, prepared)
    identity = {
        "sha256": loaded.sha256,
        "template_hash": prepared.template_hash if prepared else None,
        "hardware": str(hardware),
    }
    return loaded.model.to(hardware.device), tokenizer, identity


def open_server(model: str, folder: Path, *, concurrency: int = CONCURRENCY, attempts: int = ATTEMPTS) -> Server:
    """Find `URL#NAME`; its raw replies stand in `folder`."""
    url, _, name = model.partition("#")
    if not is_served(model) or not name:
        raise RecipeError(
            f"{model!r} names no served model\n"
            "    to do:  write the base URL and the model's name, https://api.openai.com/v1#gpt-4.1 or "
            "http://127.0.0.1:8000/v1#my-model"
        )
    return Server(open_endpoint(url), name, Journal(folder / REPLIES), concurrency=concurrency, attempts=attempts)


def is_served(model: str) -> bool:
    """Whether a model is named by the address of a server."""
    return model.startswith(("http://", "https://"))


def labelled(models: Sequence[str]) -> dict[str, str]:
    """Read `LABEL=MODEL`; a model without a label is called by the end of its name, a run's `model` by the run."""
    labels: dict[str, str] = {}
    for text in models:
        label, found, model = text.partition("=")
        if not found or "/" in label:
            name = text.rstrip("/") if "#" in text else text.rstrip("/").removesuffix("/model")
            label, model = name.rpartition("#" if "#" in text else "/")[2], text
        if label in labels:
            raise RecipeError(f"two models are called {label!r}\n    to do:  name them apart: {label}-2={model}")
        labels[label] = model
    return labels


@contextmanager
def claimed(folder: Path) -> Generator[Path]:
    """Keep others out of a folder while it is written: two evaluations in one would ask everything twice.

    Raises:
        ResourceError: another process writes to it.
        InterruptedRun: Ctrl-C; what was answered until then is kept.
    """
    run = Run(folder)
    run.lock()
    try:
        yield folder
    except KeyboardInterrupt:
        raise InterruptedRun(f"what was answered is kept in {folder}; the same command goes on") from None
    finally:
        run.unlock()
