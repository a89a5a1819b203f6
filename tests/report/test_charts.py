import re

from poise.report.charts import curves, histogram
from poise.report.stage import Stage


def pair_step(step: int) -> dict[str, float]:
    names = ("chosen", "rejected", "margins", "accuracies")
    return {"step": step, "loss": 0.6, "learning_rate": 1e-6, **{f"rewards/{name}": 0.1 * step for name in names}} | {
        "logps/chosen": -300.0,
        "logps/rejected": -310.0,
    }


def drawn(verb: str, metrics: list[dict[str, float]]) -> dict[str, str]:
    return {figure.title: str(figure.svg) for figure in curves(Stage({"verb": verb}, metrics))}


def labels(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_dpo_run_shows_the_lines_that_mean_nothing_was_learned():
    svgs = drawn("dpo", [pair_step(1), pair_step(2)])
    assert "ln 2" in labels(svgs["loss"])
    assert "0.5 = a coin" in labels(svgs["reward accuracy"])
    assert "0 = no preference" in labels(svgs["reward margin"])
    assert "dashed line marks ln 2 (0.6931)" in svgs["loss"]


def test_an_orpo_loss_has_no_ln_2_line():
    assert "ln 2" not in labels(drawn("orpo", [pair_step(1)])["loss"])


def test_accuracy_runs_from_0_to_1_and_every_axis_holds_0():
    svgs = drawn("dpo", [pair_step(1), pair_step(2)])
    assert {"0", "1"} <= set(labels(svgs["reward accuracy"]))
    assert "0" in labels(svgs["log-probability"]) and "−300" in labels(svgs["log-probability"])
    assert all("0" in labels(svg) for svg in svgs.values())


def test_rounding_coordinates_leaves_the_labels_alone():
    assert "0.02" in labels(drawn("sft", [{"step": 1, "loss": 0.03}])["loss"])


def test_one_step_is_drawn_as_a_dot():
    svg = drawn("sft", [{"step": 1, "loss": 2.0}])["loss"]
    assert 'fill="var(--first)"' in svg
    assert labels(svg)[:3] == ["0", "1", "step"], "steps are whole numbers"


def test_values_that_are_no_numbers_are_left_out():
    metrics = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": float("inf")}]
    (figure,) = curves(Stage({"verb": "sft"}, metrics))
    assert figure.series[0].points == [(1, 2.0)]


def test_a_long_run_keeps_its_peaks():
    metrics = [{"step": step, "loss": 9.0 if step == 1234 else 1.0} for step in range(1, 5001)]
    svg = drawn("sft", metrics)["loss"]
    assert len(svg) < 12_000
    assert "highest 9" in svg and "8" in labels(svg)
    # the peak is the only point near the top of the 130-pixel chart: 9 of an axis that ends at 9 or 10
    heights = [float(y) for y in re.findall(r"L[\d.]+,([\d.]+)", svg)]
    assert sum(height < 20 for height in heights) == 1


def test_every_drawing_has_its_alternative_text():
    for svg in drawn("dpo", [pair_step(1), pair_step(2)]).values():
        assert svg.startswith('<svg role="img" aria-label="Line chart of ')


def test_a_histogram_whose_edges_do_not_fit_is_not_drawn():
    assert histogram("tokens", [0, 10, 20], [1, 2]) is not None
    assert histogram("tokens", [0, 10], [1, 2]) is None
    assert histogram("tokens", None, None) is None
