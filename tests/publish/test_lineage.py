"""What made a model is found from what its folder says, however far back."""

import json
import shutil
from pathlib import Path

import pytest

from helpers.runs import make_run, write_json
from poise.errors import RunError
from poise.publish.lineage import lineage_of


@pytest.fixture
def chain(small_model: Path, tmp_path: Path) -> Path:
    """sft -> dpo -> merged -> quantized, and the data that both read."""
    write_json(tmp_path / "data" / "curation.json", {"recipe": {"sources": [{"path": "rows.jsonl", "name": "mine"}]}})
    counts = {"in": 9, "used": 8, "dropped": {"exact: copy": 1}}
    write_json(tmp_path / "data" / "ledger.json", counts | {"by_source": {"mine": counts}})
    data = {"curations": {str(tmp_path / "data"): "0" * 64}}
    make_run(tmp_path / "sft", small_model, verb="sft", data=data)
    first = {"name": str(tmp_path / "sft" / "model")}
    make_run(tmp_path / "dpo", small_model, model=first, data=data)
    shutil.copytree(small_model, tmp_path / "merged")
    write_json(tmp_path / "merged" / "merge.json", {"adapter_name": str(tmp_path / "dpo" / "model")})
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "x.gguf").write_bytes(b"GGUF")
    write_json(tmp_path / "gguf" / "rehearsal.json", {"model": str(tmp_path / "merged")})
    return tmp_path


def test_the_way_of_a_quantized_model_is_followed_to_its_base(chain: Path) -> None:
    found = lineage_of(chain / "gguf")
    assert found.model == chain / "gguf"
    assert [stage.name for stage in found.trainings] == ["sft", "dpo"]
    assert list(found.made) == ["merge.json", "rehearsal.json"]
    assert found.base == "nobody/base"
    assert list(found.curations.values()) == [chain / "data"]


def test_a_run_its_model_and_what_was_merged_of_it_have_one_story(chain: Path) -> None:
    for place in ("dpo", "dpo/model", "merged"):
        assert [stage.name for stage in lineage_of(chain / place).trainings] == ["sft", "dpo"]


def test_a_pipeline_stands_for_its_last_model_and_its_last_evaluation(chain: Path) -> None:
    out = chain / "pipeline"
    out.mkdir()
    for name, stage in (("sft", "01-sft"), ("dpo", "02-dpo"), ("merged", "03-merge")):
        shutil.move(chain / name, out / stage)
    write_json(out / "03-merge" / "merge.json", {"adapter_name": str(out / "02-dpo" / "model")})
    evidence = {"labels": ["before", "02-dpo"], "sets": []}
    write_json(out / "04-evaluate" / "evidence.json", evidence)
    done = {name: {"status": "done"} for name in ("01-sft", "02-dpo", "03-merge", "04-evaluate")}
    write_json(out / "pipeline.json", {"stages": done})
    found = lineage_of(out)
    assert found.model == out / "03-merge"
    assert found.trainings[-1].evidence == evidence
    assert found.command == ""
    (out / "pipeline.yaml").write_text("out: pipeline\n")
    assert lineage_of(out).command == "poise run pipeline.yaml"


def test_a_run_that_is_not_finished_and_a_loop_of_runs_are_told_or_ended(chain: Path) -> None:
    manifest = json.loads((chain / "sft" / "manifest.json").read_text())
    write_json(chain / "sft" / "manifest.json", manifest | {"model": {"name": str(chain / "dpo" / "model")}})
    assert len(lineage_of(chain / "dpo").trainings) == 2
    shutil.rmtree(chain / "dpo" / "model")
    with pytest.raises(RunError, match="holds no model yet"):
        lineage_of(chain / "dpo")
