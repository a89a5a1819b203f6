"""A stage is made by the modules it imports, however far, and by no others."""

import subprocess
import sys

import pytest

from poise.curate.code import closure, code_sha256, imported
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
    assert "poise.curate.push" in imported("poise.cli")
    assert code_sha256([f"{PACKAGE}.exact"]) != code_sha256([f"{PACKAGE}.quality"])
    assert code_sha256(STEPS) == code_sha256(STEPS[::-1])
