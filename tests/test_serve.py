"""Serving: who is started with what, what is refused, and a real server that is asked."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poise import serve as serving
from poise.cli import poise
from poise.errors import ModelError, ResourceError, RunError
from poise.serve import HOST, Serving, plan_serving, serve

SECONDS = 240


@pytest.fixture(scope="module")
def model(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as poise leaves it: template, and settings that stop at the end of a turn."""
    from transformers import AutoTokenizer, GenerationConfig

    folder = shutil.copytree(small_model, tmp_path_factory.mktemp("serve") / "mine")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }}</s>{% endfor %}"
    tokenizer.chat_template += "{% if add_generation_prompt %}assistant {% endif %}"
    tokenizer.save_pretrained(folder)
    GenerationConfig(eos_token_id=tokenizer.eos_token_id).save_pretrained(folder)
    return folder


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: object())
    monkeypatch.setattr(serving.shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("all_installed")
def test_each_server_gets_the_model_its_name_and_this_machine_alone(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine-q8_0.gguf"
    file.touch()
    plans = {engine: plan_serving(model, 8001, engine) for engine in ("transformers", "vllm")}
    plans["llama.cpp"] = plan_serving(file, 8001, None)
    assert plan_serving(tmp_path, 8001, None) == plans["llama.cpp"] == Serving(
        "llama.cpp",
        ["/usr/bin/llama-server", "--model", str(file), "--host", "127.0.0.1", "--port", "8001", "--jinja", "--alias",
         "mine-q8_0"],
        "mine-q8_0",
        8001,
    )  # fmt: skip
    assert plans["vllm"].command[2:] == ["vllm.entrypoints.cli.main", "serve", str(model), "--host", "127.0.0.1",
                                         "--port", "8001", "--served-model-name", "mine"]  # fmt: skip
    assert plans["transformers"].command[3:] == ["serve", str(model), "--host", "127.0.0.1", "--port", "8001"]
    assert plans["transformers"].name == str(model)


@pytest.mark.usefixtures("all_installed")
def test_a_run_is_served_by_its_model(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "sft" / "model")
    (tmp_path / "sft" / "manifest.json").write_text("{}")
    assert serving.model_folder(tmp_path / "sft") == tmp_path / "sft" / "model"
    assert plan_serving(tmp_path / "sft", 8001, "vllm").name == "sft"


def test_what_would_not_stop_or_is_no_model_is_refused(model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "generation_config.json").write_text('{"eos_token_id": 4}')
    with pytest.raises(ModelError, match=r"answers end in </s>, and generation_config\.json does not stop there"):
        plan_serving(broken, 8000, None)
    (broken / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        plan_serving(broken, 8000, None)
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"its weights are in pytorch_model\.bin, which can run code"):
        plan_serving(broken, 8000, None)
    (broken / "config.json").unlink()
    with pytest.raises(ModelError, match="holds no model"):
        plan_serving(broken, 8000, None)
    (broken / "adapter_config.json").touch()
    with pytest.raises(ModelError, match="is an adapter"):
        plan_serving(broken, 8000, None)
    with pytest.raises(ModelError, match=r"there is no file .*x\.gguf"):
        plan_serving(tmp_path / "x.gguf", 8000, None)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"holds 2 GGUFs(.|\n)*a\.gguf"):
        plan_serving(tmp_path, 8000, None)


def test_a_server_that_is_missing_or_reads_other_files_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    monkeypatch.setattr(serving.shutil, "which", lambda name: None)
    for engine, remedy in (("vllm", "pip install vllm"), (None, r"pip install 'poise\[serve\]'")):
        with pytest.raises(ModelError, match=rf"is not installed(.|\n)*{remedy}"):
            plan_serving(model, 8000, engine)
    (tmp_path / "a.gguf").touch()
    with pytest.raises(ModelError, match=r"llama\.cpp is not installed"):
        plan_serving(tmp_path, 8000, None)
    with pytest.raises(ModelError, match=r"vllm serves a model's folder"):
        plan_serving(tmp_path, 8000, "vllm")
    with pytest.raises(ModelError, match=r"llama\.cpp serves a \.gguf"):
        plan_serving(model, 8000, "llama.cpp")


@pytest.mark.usefixtures("all_installed")
def test_a_dry_run_prints_the_command(model: Path) -> None:
    told = CliRunner().invoke(poise, ["serve", str(model), "--engine", "vllm", "--dry-run", "--json"])
    assert json.loads(told.stdout)["url"] == "http://127.0.0.1:8000/v1"
    told = CliRunner().invoke(poise, ["serve", str(model), "--engine", "vllm", "--dry-run"])
    assert told.stdout.endswith(f"serve {model} --host 127.0.0.1 --port 8000 --served-model-name mine\n")


@pytest.mark.enable_socket
def test_a_taken_port_and_a_server_that_fails_are_told() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ResourceError, match=f"port {port} is taken"):
            serve(Serving("vllm", ["false"], "mine", port))
    with pytest.raises(RunError, match="vllm ended with code 3"):
        serve(Serving("vllm", [sys.executable, "-c", "raise SystemExit(3)"], "mine", port))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def ask(url: str, name: str, until: float) -> dict[str, Any]:
    """Ask a server once it answers."""
    body = {"model": name, "messages": [{"role": "user", "content": "yes?"}], "max_tokens": 4, "temperature": 0}
    request = urllib.request.Request(
        f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.loads(reply.read())
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.5)


def served_answer(model: Path, name: str) -> dict[str, Any]:
    """Serve by command, ask, and stop as Ctrl-C does."""
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", "poise", "serve", str(model), "--port", str(port)])
    try:
        return ask(f"http://{HOST}:{port}/v1", name, time.monotonic() + SECONDS)
    finally:
        os.kill(child.pid, signal.SIGINT)
        assert child.wait(60) == 0


@pytest.mark.slow
@pytest.mark.enable_socket
@pytest.mark.skipif(find_spec("fastapi") is None, reason="transformers serve needs fastapi")
def test_transformers_serve_answers_in_openais_protocol(model: Path) -> None:
    said = served_answer(model, str(model))
    assert said["choices"][0]["message"]["role"] == "assistant"
    assert said["choices"][0]["finish_reason"] in ("stop", "length")


@pytest.mark.slow
@pytest.mark.enable_socket
@pytest.mark.skipif(find_spec("starlette_context") is None, reason="needs llama-cpp-python[server]")
def test_llama_cpp_answers_in_openais_protocol(model: Path, tmp_path: Path) -> None:
    from poise.publish.quantize import quantize

    quantize(model, "gguf-q8_0", tmp_path / "out", least_agreement=0.0, most_perplexity=10.0)
    said = served_answer(tmp_path / "out", "mine-q8_0")
    assert said["choices"][0]["message"]["role"] == "assistant"
