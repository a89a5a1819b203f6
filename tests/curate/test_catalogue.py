"""The list of sources that a recipe can name."""

from poise.curate.catalogue import catalogue, told
from poise.names import names_in


def test_every_source_says_what_there_is_to_know() -> None:
    sources = catalogue()
    assert [each["source"] for each in sources] == names_in("poise.catalog")
    assert len(sources) >= 36
    for each in sources:
        assert each["about"] and each["licence"] and 1 <= each["confidence"] <= 3 and "/" in each["hub"], each


def test_the_list_names_keys_and_risks() -> None:
    text = told(catalogue())
    assert "letter_only=0.5" in text and "risk (accept_risk: true): " in text


def test_what_rows_do_to_scores_and_queries_is_told_as_a_risk() -> None:
    risks = {each["source"]: each["risk"] or "" for each in catalogue()}
    assert "training sets of other benchmarks" in risks["mmlu"]
    assert "decontaminate" in risks["natural_instructions"]
    assert "no database schema" in risks["spider"]
