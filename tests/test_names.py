"""Modules found by their file name, without importing any that is not asked for."""

import subprocess
import sys

import pytest

from poise.names import did_you_mean, load_named, names_in


def test_the_objectives_are_their_files() -> None:
    assert {"cpt", "dpo", "orpo", "sft"} <= set(names_in("poise.objectives"))
    assert "__init__" not in names_in("poise.objectives")


def test_listing_imports_no_module_of_the_package() -> None:
    program = (
        "import sys; from poise.names import names_in; names_in('poise.objectives'); "
        "print([name for name in sys.modules if name.startswith('poise.objectives.') or name == 'torch'])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_module_is_loaded_by_its_name() -> None:
    assert load_named("poise.curate", "reason").Reason("copy").phrase == "copy"


def test_a_miss_names_the_near_one() -> None:
    with pytest.raises(KeyError, match=r"there is no poise\.curate\.enigne; did you mean 'engine'\?"):
        load_named("poise.curate", "enigne")


@pytest.mark.parametrize("package", ["poise.nothing", "poise.names"])
def test_what_is_no_package_is_refused(package: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        names_in(package)


@pytest.mark.parametrize(
    ("name", "told"),
    [("stf", "; did you mean 'sft'?"), ("orpoo", "; did you mean 'orpo'?"), ("zzz", ""), ("", "")],
)
def test_the_nearest_name_is_meant(name: str, told: str) -> None:
    assert did_you_mean(name, ["sft", "dpo", "orpo"]) == told
