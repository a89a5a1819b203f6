"""What every test can use: tiny models, the command line, and imports that garbage collection leaves alone."""

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import helpers.tiny
from helpers.in_place import make_model
from poise.cli import main
from poise.progress import hush

hush()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in its background, and all below it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:  # a process on each core: threads would only wait for one another
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_finish() -> None:
    """Keep what was imported out of later garbage collections.

    accelerate collects at every training, which takes 0.3 s over all objects of torch and transformers, and 0.0 over
    those of a test.
    """
    _freeze()


@pytest.fixture(scope="module", autouse=True)
def frozen_imports() -> Iterator[None]:
    """Keep out, too, what a module's tests imported where they used it."""
    yield
    if len(gc.get_objects()) > 100_000:
        _freeze()


def _freeze() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture
def tiny_llama() -> LlamaForCausalLM:
    """Two layers, four heads over two key heads; wide weights, so that attention and logits are far from uniform."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tiny() -> Any:
    """The helpers that make models, tokenizers, rows and overrides."""
    return helpers.tiny


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 16 dimensions with a byte tokenizer, on disk."""
    return make_model(tmp_path_factory.mktemp("small"))


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def poise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["poise", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run
