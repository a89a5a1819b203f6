import pytest

from poise.errors import DataError
from poise.sources.spec import parse_split


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("train", "0123456789"),
        ("train[:3]", "012"),
        ("train[7:]", "789"),
        ("train[2:4]", "23"),
        ("train[-2:]", "89"),
        ("train[:-8]", "01"),
        ("train[:20%]", "01"),
        ("train[50%:70%]", "56"),
        ("train[:100]", "0123456789"),
    ],
)
def test_slice_cuts_the_rows_it_names(split: str, rows: str):
    name, wanted = parse_split(split)
    assert name == "train"
    assert "".join(wanted.cut("0123456789")) == rows


@pytest.mark.parametrize("split", ["train[3]", "train[a:b]", "train+test", "train[:3", ""])
def test_split_that_cannot_be_understood_is_refused_with_examples(split: str):
    with pytest.raises(DataError, match=r"train\[:100\]"):
        parse_split(split)


def test_plain_slice_reads_no_further_than_its_end():
    def rows():
        yield from "ab"
        raise AssertionError("read too far")

    assert list(parse_split("train[:2]")[1].cut(rows())) == ["a", "b"]
