"""Which cells are measured, in which order, and how a measured one is found again."""

import itertools
import json
from dataclasses import asdict

import bench_preference
from preference.plan import Cell, Settings, all_data, by_data, headline, key, product

SETTINGS = Settings(None, 40_000, 256, "width", "cpu", 42, None)


def test_arms_of_a_group_stand_together() -> None:
    cells = headline(all_data("pairs.jsonl"), ())
    starts = [index for index, cell in enumerate(cells) if index == 0 or cell.group != cells[index - 1].group]
    assert len(starts) == len({cell.group for cell in cells})
    assert all(cells[index].arm == "poise" for index in starts)


def test_the_headline_is_dpo_everywhere_and_the_rest_on_two_shapes() -> None:
    groups = {cell.group for cell in headline(all_data("pairs.jsonl"), ())}
    assert len([group for group in groups if group[1] == "dpo" and group[2] != "qlora"]) == 7 * 2 * 2
    others = {group for group in groups if group[1] != "dpo" or group[2] == "qlora"}
    assert len(others) == 2 * (3 * 2 + 1)
    assert {group[0] for group in others} == {"tldr", "ultrafeedback"}


def test_a_data_set_is_prepared_once() -> None:
    order = [cell.data for cell in by_data(headline(all_data(None), ()))]
    assert sum(1 for before, after in itertools.pairwise(order) if before != after) == 5


def test_conversations_have_no_arm_without_sharing() -> None:
    arms = [cell.arm for cell in product(["tldr"], ["sft"], ["lora"], ["float32"], ())]
    assert "poise-unshared" not in arms
    assert "trl-packed" in arms


def test_a_cell_of_other_settings_is_not_this_one() -> None:
    cell = Cell("tldr", "dpo", "lora", "float32", "poise")
    assert key(cell, SETTINGS) == key(Cell(**asdict(cell)), Settings(**asdict(SETTINGS)))
    assert key(cell, SETTINGS) != key(cell, Settings(8, 40_000, 256, "width", "cpu", 42, None))


def test_finished_cells_are_read_back_and_failed_ones_tried_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    done, failed = (Cell("tldr", "dpo", "lora", "float32", arm) for arm in ("poise", "trl"))
    lines = [
        {"cell": asdict(done), "settings": asdict(SETTINGS), "result": {"seconds": 1}},
        {"cell": asdict(failed), "settings": asdict(SETTINGS), "failed": "killed"},
    ]
    file = tmp_path / "cells.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cell": {"da')
    assert list(bench_preference.read_cells(file)) == [key(done, SETTINGS)]
