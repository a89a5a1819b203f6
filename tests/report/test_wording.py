import pytest

from poise.report.wording import compact, duration, percent, size


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.001, "0.1 %"), (0.12, "12 %"), (0.997, "99.7 %"), (1, "100 %")]
)
def test_only_none_and_all_read_0_and_100_percent(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "1e-4"), (8.81e-5, "8.81e-5"), (0.693147, "0.6931"), (-21.5, "−21.5"), (-0.0, "0"), (12480.0, "12,480")],
)
def test_values_read_short(value, text):
    assert compact(value) == text


def test_what_is_no_number_reads_as_it_stands():
    assert (compact(None), compact("lora"), compact(float("nan"))) == ("–", "lora", "nan")


def test_times_and_sizes_have_units():
    assert (duration(8.21), duration(200), duration(7500)) == ("8.2 s", "3 min 20 s", "2 h 05 min")
    assert (size(512), size(1.5 * 2**30)) == ("512 B", "1.5 GiB")
