import re
from html.parser import HTMLParser
from typing import Any

import pytest

from helpers import payloads
from poise.errors import RunError
from poise.report.report import VISIBLE, build_report
from poise.report.stage import Stage

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}",
    "]]><svg onload=alert(1)>",
    "-->\u202e\ud800",
    *payloads.PAYLOADS,
)
METRICS = [{"step": step, "loss": 1 / step, "learning_rate": 1e-4} for step in (1, 2, 3)]


class Page(HTMLParser):
    """What a browser would build: element names, attributes, text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.in_paragraph: list[str] = []
        self.text = ""
        self._paragraphs = 0
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if self._paragraphs:
            self.in_paragraph.append(tag)
        self._paragraphs += tag == "p"

    def handle_endtag(self, tag: str) -> None:
        self._paragraphs -= tag == "p"

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(payload: str) -> Stage:
    """A stage in which every text, and every key that is shown, is the payload."""
    answer = {"text": payload, "score": 1.0, "stopped": False, "tokens": 1}
    return Stage(
        manifest={
            **dict.fromkeys(("poise", "verb", "status", "created", "command", "seconds", "optimizer_steps"), payload),
            **{key: {"name": payload, payload: payload} for key in ("machine", "versions", "model", "reference")},
            "data": {"rows": payload, payload: payload, "token_histogram": {"edges": [payload], "counts": []}},
            "notes": [payload],
            "warnings": [payload],
            "result": {payload: payload},
        },
        metrics=[{"step": 1, "loss": 1.0, payload: payload}],
        ledger={
            "in": 1,
            "used": 0,
            "dropped": {payload: 1},
            "by_source": {payload: {"in": 1, "used": 0, "dropped": {}}},
        },
        drops=[dict.fromkeys(("stage", "source", "place", "reason", "id", "evidence"), payload)],
        recipe=f"beta: 0.1  # {payload}".encode(errors="replace").decode(),
        evidence={"labels": [payload], "sets": [{"name": payload, "title": payload, "n": 1, "scores": {payload: 1.0}}]},
        samples=[
            {
                "id": payload,
                "set": payload,
                "prompt": [{"role": payload, "content": payload * 100}],
                "expected": payload,
                "answers": {payload: answer},
            }
        ],
    )


def test_a_paragraph_holds_no_block_which_would_end_it(write_run, tmp_path):
    page = Page(built(write_run, tmp_path, hostile("a long text that is cut, to be unfolded; ")))
    assert sum(tag == "details" and attrs.get("class") == "text" for tag, attrs in page.elements) >= 1
    assert not {"details", "div", "dl", "p", "ul", "table"} & set(page.in_paragraph)


@pytest.mark.parametrize("payload", PAYLOADS, ids=map(str, range(len(PAYLOADS))))
def test_hostile_text_is_shown_and_never_run(payload, write_run, tmp_path):
    out = tmp_path / "report.html"
    build_report([write_run("run", hostile(payload))], out, title=payload)
    page = Page(out.read_text())
    names = {name for name, _ in page.elements}
    assert not names & {"script", "img", "iframe", "object", "embed", "link", "a", "form", "base", "use", "image"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert not {"href", "src", "style", "srcdoc", "xlink:href"} & set(attributes)
    assert payload.replace("\r\n", "\n").translate(VISIBLE) in page.text


def test_the_page_forbids_itself_to_load_or_run_anything(write_run, tmp_path, scored):
    source = built(write_run, tmp_path, scored("sft", METRICS, 40, facts={"before": 0, "sft": 40}))
    policies = [a["content"] for n, a in Page(source).elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    ]
    assert not re.search(r"https?://|url\(|@import|<script", source)


def test_the_page_has_its_sections_in_order(write_run, tmp_path, scored):
    source = built(write_run, tmp_path, scored("sft", METRICS, 40, facts={"before": 0, "sft": 40}))
    headings = re.findall(r'<h2 id="(\w+)"', source)
    assert headings == ["verdict", "answers", "scores", "curves", "data", "said", "again"]
    assert "Learned: facts 0 → 100 %, nothing lost." in source
    assert "95 %: 91–100 %" in source


def test_every_drawing_is_described_or_hidden(write_run, tmp_path, scored):
    source = built(write_run, tmp_path, scored("sft", METRICS, 40, facts={"before": 0, "sft": 40}))
    drawings = [attributes for name, attributes in Page(source).elements if name == "svg"]
    assert drawings and all(one.get("aria-label") or one.get("aria-hidden") == "true" for one in drawings)


def test_right_and_wrong_are_told_in_words(write_run, tmp_path, scored):
    text = Page(built(write_run, tmp_path, scored("sft", [], 2, facts={"before": 1, "sft": 2}))).text
    assert "✓ right" in text and "✗ wrong" in text


def test_the_points_stand_in_a_table(write_run, tmp_path):
    text = Page(built(write_run, tmp_path, Stage({"verb": "sft"}, METRICS))).text
    assert "The points as a table" in text and "0.3333" in text


def test_a_rebuild_gives_the_same_bytes(write_run, tmp_path, scored):
    run = write_run("run", scored("dpo", METRICS, 40, facts={"before": 0, "dpo": 40}))
    for name in ("one.html", "two.html"):
        build_report([run], tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


@pytest.mark.parametrize("metrics", [[], METRICS[:1]])
def test_a_run_with_only_a_manifest_has_a_page(metrics, write_run, tmp_path):
    text = Page(built(write_run, tmp_path, Stage({"verb": "dpo", "status": "interrupted"}, metrics))).text
    assert "its status is interrupted" in text
    assert ("No step was logged." in text) == (not metrics)


def test_two_long_stages_stay_under_300_kb(write_run, tmp_path, scored):
    pairs = ("rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected", "logps/chosen")
    long: list[dict[str, Any]] = [
        {"step": step, "loss": 1 + (step * 37 % 101) / 100, **dict.fromkeys(pairs, step * 53 % 97 / 97)}
        for step in range(1, 2001)
    ]
    stages = [Stage({"verb": "sft", "status": "done"}, long), scored("dpo", long, 100, facts={"before": 0, "dpo": 60})]
    out = tmp_path / "report.html"
    build_report([write_run(stage.name, stage) for stage in stages], out)
    assert out.stat().st_size < 300_000


def test_evidence_can_come_from_another_folder(write_run, tmp_path, scored):
    run = write_run("run", Stage({"verb": "sft", "status": "done"}))
    other = write_run("evaluation", scored("sft", [], 40, facts={"before": 0, "after": 40}))
    for place in (other, other / "evidence.json"):
        assert build_report([run], tmp_path / "report.html", evidence=place).level == "good"


def test_a_folder_that_is_no_run_is_refused_in_words(tmp_path):
    with pytest.raises(RunError, match="is not a run"):
        build_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(RunError, match="at least one"):
        build_report([], tmp_path / "report.html")


def test_a_damaged_file_is_named_without_a_traceback(write_run, tmp_path):
    run = write_run("run", Stage({"verb": "sft"}))
    (run / "metrics.jsonl").write_text("{broken\n")
    with pytest.raises(RunError, match="cannot be read"):
        build_report([run], tmp_path / "report.html")


def built(write_run: Any, tmp_path: Any, stage: Stage) -> str:
    out = tmp_path / "report.html"
    build_report([write_run("run", stage)], out)
    return out.read_text()
