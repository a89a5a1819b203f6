"""A stage is made by the modules it imports, however far, and by no others."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.batch.tokens import shipped_templates
from poise.curate.code import ROOT, closure, code_sha256, imported, read_beside
from poise.curate.step import PACKAGE
from poise.names import names_in

STEPS = [f"{PACKAGE}.{name}" for name in names_in(PACKAGE)]


@pytest.mark.parametrize("module", ["poise.curate.load", f"{PACKAGE}.decontaminate"])
def test_the_closure_holds_every_module_that_an_import_really_loads(module: str) -> None:
    script = f"import sys, {module}; print(*(name for name in sys.modules if name.partition('.')[0] == 'poise'))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= closure(frozenset([module]))


def test_a_step_does_not_depend_on_another_nor_on_how_the_result_is_written() -> None:
    exact = closure(frozenset([f"{PACKAGE}.exact"]))
    assert {"poise.curate.rows", "poise.curate.engine", "poise.curate.texts", "poise.examples"} <= exact
    assert not {"poise.curate.language", "poise.curate.minhash", "poise.curate.write", "poise.catalog.boolq"} & exact
    assert "poise.curate.language" in closure(frozenset([f"{PACKAGE}.quality"]))


def test_an_import_within_a_function_and_one_of_a_package_count() -> None:
    assert "poise.curate" in imported("poise.curate.load") and "poise.progress" in imported("poise.curate.load")
    assert "poise.publish.publish" in imported("poise.commands.publish")
    assert code_sha256([f"{PACKAGE}.exact"]) != code_sha256([f"{PACKAGE}.quality"])
    assert code_sha256(STEPS) == code_sha256(STEPS[::-1])


def test_chat_templates_are_read_by_the_step_that_counts_tokens_and_not_by_exact() -> None:
    templates = {ROOT / "batch" / "templates" / f"{name}.jinja" for name in shipped_templates()}
    assert templates <= files_of(f"{PACKAGE}.tokens")
    assert not templates & files_of(f"{PACKAGE}.exact")


def files_of(module: str) -> set[Path]:
    return {file for name in closure(frozenset([module])) for file in read_beside(name)}


def test_another_text_of_a_template_is_another_hash(sources: Path) -> None:
    before = code_sha256([f"{PACKAGE}.tokens"]), code_sha256([f"{PACKAGE}.exact"])
    with (sources / "batch" / "templates" / "zephyr.jinja").open("a") as file:
        file.write(" ")
    assert code_sha256([f"{PACKAGE}.tokens"]) != before[0]
    assert code_sha256([f"{PACKAGE}.exact"]) == before[1]


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Copy poise's own files, to be changed."""
    shutil.copytree(ROOT, tmp_path / "poise")
    monkeypatch.setattr("poise.curate.code.ROOT", tmp_path / "poise")
    forget()
    yield tmp_path / "poise"
    forget()


def forget() -> None:
    for cached in (closure, imported, read_beside):
        cached.cache_clear()
