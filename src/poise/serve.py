"""`poise serve`: hand a model to a server that is installed, with its template and stop tokens, on this machine alone.

    folder of transformers  ──>  vLLM on a GPU, else `transformers serve`
    .gguf                   ──>  llama-server of llama.cpp, else the server in llama-cpp-python

All speak OpenAI's protocol; the model is known there by one name. Nothing is served that would not stop: a model must
name the token that ends its template's turns in its generation settings.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from poise import progress
from poise.errors import ModelError, ResourceError, RunError
from poise.run import model_folder

HOST = "127.0.0.1"
ENGINES = ("transformers", "vllm", "llama.cpp")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "VLLM_NO_USAGE_STATS": "1"}
"""What is served is here, and nobody needs to know of it."""
SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Serving:
    """What is started."""

    engine: str
    command: list[str]
    name: str
    """What requests call the model."""
    port: int

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://{HOST}:{self.port}/v1"


def plan_serving(model: Path, port: int, engine: str | None) -> Serving:
    """Choose the server and check the model; ModelError where it is none, would not stop, or nothing can serve it."""
    folder = model_folder(model)
    file = _gguf(folder)
    if file is None:
        _check_folder(folder, model)
    chosen = _chosen(engine, file)
    name = file.stem if file else model.resolve().name
    subject = folder if file is None else file
    served = str(subject) if chosen == "transformers" else name  # the only one that gives no other name
    return Serving(chosen, _command(chosen, subject, name, port), served, port)


def serve(serving: Serving) -> dict[str, Any]:
    """Run the server until it is stopped; says when it answers. RunError where it ends by itself with an error."""
    _refuse_busy(serving.port)
    progress.say(f"starting {serving.engine}: {' '.join(serving.command)}")
    child = subprocess.Popen(serving.command, env={**os.environ, **OFFLINE})

    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        child.send_signal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if _answers(serving.port, child):
            progress.say(f"ready: {serving.url} · model {serving.name} · Ctrl-C stops it")
            progress.say(f"talk to it: poise chat {serving.url}#{serving.name}")
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code and not stopped:
        raise RunError(f"{serving.engine} ended with code {code}; its own messages stand above")
    return {"engine": serving.engine, "url": serving.url, "model": serving.name}


def _gguf(model: Path) -> Path | None:
    """Return the GGUF that is meant: the file itself, or the only one in a folder."""
    if model.suffix == ".gguf":
        if not model.is_file():
            raise ModelError(f"there is no file {model}\n    to do:  name a .gguf, a model's folder or a run")
        return model
    files = sorted(model.glob("*.gguf")) if model.is_dir() else []
    if len(files) > 1:
        raise ModelError(f"{model} holds {len(files)} GGUFs\n    to do:  name one of them: {files[0]}")
    return files[0] if files else None


def _check_folder(folder: Path, named: Path) -> None:
    """Refuse what a server could not load, or what would answer without end."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(f"{named} is an adapter\n    to do:  poise merge {named}, and serve the merged folder")
        raise ModelError(f"{named} holds no model\n    to do:  name a run, a model's folder or a .gguf")
    from poise.batch.tokens import prepare_tokenizer
    from poise.models.open import check_model, open_tokenizer

    check_model(str(folder))  # the server opens it by itself
    tokenizer = open_tokenizer(str(folder))
    if not tokenizer.chat_template:
        raise ModelError(
            f"{named} has no chat template, so a server cannot make a prompt of messages\n"
            "    to do:  serve one that was trained on conversations"
        )
    stop = prepare_tokenizer(tokenizer, None).stop_ids[0]
    if stop not in _stops(folder):
        raise ModelError(
            f"{named}: answers end in {tokenizer.convert_ids_to_tokens(stop)}, and generation_config.json does not "
            "stop there\n    why:    a server would let it talk on\n"
            f"    to do:  add {stop} to its eos_token_id"
        )


def _stops(folder: Path) -> list[int]:
    """Read where a folder says that generation stops."""
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        named = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        if named is not None:
            return named if isinstance(named, list) else [named]
    return []


def _chosen(engine: str | None, file: Path | None) -> str:
    """Return who serves it; ModelError where that is not installed or reads other files."""
    if engine == "llama.cpp" and file is None:
        raise ModelError("llama.cpp serves a .gguf\n    to do:  make one with poise quantize --to gguf-q8_0")
    if engine in ("transformers", "vllm") and file is not None:
        raise ModelError(f"{engine} serves a model's folder here, not a .gguf\n    to do:  leave --engine out")
    chosen = engine or ("llama.cpp" if file else "vllm" if _has_vllm() else "transformers")
    missing = {
        "vllm": None if find_spec("vllm") else "pip install vllm",
        "transformers": None if _has_transformers_serve() else "pip install 'poise[serve]'",
        "llama.cpp": None if _llama_server() else "install llama.cpp, or pip install 'llama-cpp-python[server]'",
    }[chosen]
    if missing:
        raise ModelError(f"nothing here serves it: {chosen} is not installed\n    to do:  {missing}")
    return chosen


def _has_vllm() -> bool:
    if not find_spec("vllm"):
        return False
    import torch

    return torch.cuda.is_available()


def _has_transformers_serve() -> bool:
    return all(find_spec(package) for package in ("fastapi", "uvicorn", "openai"))


def _llama_server() -> list[str] | None:
    found = shutil.which("llama-server")
    if found:
        return [found]
    python = find_spec("llama_cpp") and find_spec("starlette_context") and find_spec("sse_starlette")
    return [sys.executable, "-m", "llama_cpp.server"] if python else None


def _command(engine: str, model: Path, name: str, port: int) -> list[str]:
    at = ["--host", HOST, "--port", str(port)]
    if engine == "vllm":
        return [
            sys.executable,
            "-m",
            "vllm.entrypoints.cli.main",
            "serve",
            str(model),
            *at,
            "--served-model-name",
            name,
        ]
    if engine == "transformers":
        return [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), *at]
    server = _llama_server() or []
    if len(server) == 1:
        return [*server, "--model", str(model), *at, "--jinja", "--alias", name]
    return [*server, "--model", str(model), *at, "--model_alias", name]


def _refuse_busy(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise ResourceError(f"port {port} is taken\n    to do:  name another with --port")


def _answers(port: int, child: "subprocess.Popen[bytes]") -> bool:
    """Wait until the port is open; False where the server ended before."""
    while child.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return False
