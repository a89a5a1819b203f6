"""The card tells what was measured, says of all else that it was not, and runs nothing that a text holds."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from helpers.payloads import PAYLOADS
from helpers.runs import make_run, write_json
from poise.errors import RunError
from poise.publish.card.make import make_card
from poise.publish.card.markdown import block, inline

PERMISSIVE = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
"""A viewer that lets HTML of the text through, as the worst ones do."""
TAGS = frozenset((
    "h1", "h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "strong", "em", "pre", "code", "a",
))  # fmt: skip


class Tags(HTMLParser):
    """Collects what a browser would act upon."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        links = [value for name, value in attrs if name == "href"]
        known = all(name in ("href", "class", "style") for name, _ in attrs)
        sound = all(str(link).startswith("https://huggingface.co/") for link in links)
        aligned = all(re.fullmatch(r"text-align:\w+", str(value)) for name, value in attrs if name == "style")
        if tag not in TAGS or not known or not sound or not aligned:
            self.found.append(f"{tag} {attrs}")

    def handle_decl(self, decl: str) -> None:
        self.found.append(decl)


def executable(markdown: str) -> list[str]:
    tags = Tags()
    body = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)
    tags.feed(PERMISSIVE.render(body))
    tags.close()
    return tags.found


def text_of(run: Path, **options: Any) -> str:
    make_card(run, **options)
    return (run / "README.md").read_text(encoding="utf-8")


def test_every_number_of_the_card_is_that_of_the_evidence(run: Path) -> None:
    text = text_of(run)
    assert "| Facts | 4 | 25 % (5 % to 70 %) | 75 % (30 % to 95 %) | +50 points" in text
    assert "| dpo | pairs.jsonl | not known | 44 | 40 | too long: 3; empty completion: 1 |" in text
    assert "| tokens trained on | 3,456 |" in text
    assert "| wall time of training | 1 min 01 s |" in text
    assert "| weights trained | 10 of 1,000 (LoRA) |" in text
    assert "poise dpo recipe.yaml" in text
    assert "question 1" in text and "was 1" in text and "is 1" in text
    assert "Longest sequence trained on: 77 tokens" in text


def test_the_template_is_tried_on_the_saved_files(run: Path) -> None:
    text = text_of(run)
    assert "an answer ends in &lt;\\|im\\_end\\|&gt;, and default generation stops there" in text
    assert "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n" in text
    write_json(run / "model" / "generation_config.json", {"eos_token_id": 2})
    assert "The template was not verified: answers end in" in text_of(run)
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", manifest | {"model": {**manifest["model"], "chat_template_hash": "0" * 16}})
    assert "the saved template is another one than it was trained with" in text_of(run)


def test_without_evidence_every_field_says_not_measured_and_none_is_invented(small_model: Path, tmp_path: Path) -> None:
    make_card(small_model, tmp_path / "card.md", title="unknown")
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    for field in ("base model", "tokens trained on", "hardware", "wall time of training", "made by"):
        assert f"| {field} | not measured |" in text
    assert "Benchmarks and scores: not measured." in text
    assert "Datasets: not measured." in text
    assert "model-index" not in text
    body = text.split("---\n", 2)[2].partition("## How to use")[0]
    assert not re.findall(r"\d", body)


def test_the_index_goes_through_the_hubs_own_classes_and_back(run: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

    line = {"name": "acc", "estimate": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}, "unscored": 0}
    held: dict[str, Any] = {"kind": "bench", "model": str(run), "judge": None, "notes": ["a note"],
                            "tables": [{"title": "arc_easy", "unit": "share", "lines": [line]}]}  # fmt: skip
    write_json(tmp_path / "bench" / "evaluation.json", held)
    write_json(tmp_path / "of the base" / "evaluation.json", {**held, "model": "nobody/base"})
    content = text_of(run, evaluations=[tmp_path / "bench", tmp_path / "of the base"])
    assert "### bench of nobody/base" in content
    data = ModelCard(content).data
    facts, bench = data.eval_results
    assert (facts.metric_type, facts.metric_value, facts.metric_args["n"]) == ("accuracy", 0.75, 4)
    assert (bench.dataset_name, bench.metric_value, bench.metric_args["high_95"]) == ("arc_easy", 0.5, 0.6)
    index = eval_results_to_model_index(data.model_name, data.eval_results)
    assert model_index_to_eval_results(index) == (data.model_name, data.eval_results)
    assert "| acc | 0.50 | 0.40 to 0.60 | 100 | none |" in content
    assert data.base_model == "nobody/base"


def test_a_licence_is_read_from_the_card_of_the_base(run: Path, small_model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n", encoding="utf-8")
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", manifest | {"model": {**manifest["model"], "name": str(base)}})
    text = text_of(run)
    assert "| licence of the base | apache-2.0 (by its card) |" in text
    assert "\nlicense: apache-2.0\n" in text
    assert str(tmp_path) not in text


def test_a_folder_without_a_model_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no model"):
        make_card(tmp_path)


@pytest.mark.parametrize("payload", PAYLOADS, ids=map(str, range(len(PAYLOADS))))
def test_nothing_runs_that_stands_in_any_field_of_a_card(small_model: Path, tmp_path: Path, payload: str) -> None:
    named = {"name": payload, "tuning": payload, "dtype": payload, "weights_sha256": payload, "parameters": 9}
    sources = {payload: {"in": 1, "used": 1, "dropped": {payload: 1}}}
    run = make_run(
        tmp_path / "run", small_model, verb=payload, command=payload, objective={payload: payload}, model=named,
        machine={"device": payload}, versions={payload: payload}, poise=payload, reference={"kind": payload},
        diagnoses={payload: payload}, data={"sha256": payload, "rows": 1},
    )  # fmt: skip
    write_json(run / "ledger.json", {"in": 1, "used": 1, "dropped": {}, "by_source": sources})
    write_json(run / "evidence.json", {"labels": [payload, "after"], "sets": [
        {"name": payload, "title": payload, "n": 2, "scores": {payload: 0.5, "after": 1.0}}]})  # fmt: skip
    answer = {"text": payload, "stopped": False, "score": 0.0}
    sample = {"set": payload, "prompt": [{"role": payload, "content": payload}], "expected": payload,
              "answers": {payload: answer, "after": {**answer, "score": 1.0}}}  # fmt: skip
    (run / "samples.jsonl").write_text(json.dumps(sample) + "\n", encoding="utf-8")
    write_json(run / "model" / "merge.json", {payload: payload, "adapter_name": payload})
    (run / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}" + payload.replace("{", ""))
    line = {"name": payload, "estimate": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1}, "unscored": 0}
    held = {"kind": payload, "model": payload, "judge": {"model": payload, "host": payload}, "notes": [payload],
            "tables": [{"title": payload, "unit": payload, "lines": [line]}]}  # fmt: skip
    write_json(tmp_path / "bench" / "evaluation.json", held)
    text = text_of(run, title=payload, licence=payload, evaluations=[tmp_path / "bench"])
    assert executable(text) == []
    from huggingface_hub import ModelCard

    assert ModelCard(text).data.to_dict()["tags"][0] == "poise"


@pytest.mark.parametrize("payload", PAYLOADS, ids=map(str, range(len(PAYLOADS))))
def test_texts_read_as_they_were_written(payload: str) -> None:
    assert executable(f"a {inline(payload)} b\n\n{block(payload)}") == []
    shown = HTMLText()
    shown.feed(PERMISSIVE.render(block(payload)))
    plain = payload.translate({code: f"\\u{code:04x}" for code in (0x0B, 0x0D, 0x202E)})
    assert shown.text.rstrip("\n") == plain


class HTMLText(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data
