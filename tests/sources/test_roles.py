import pytest

from poise.sources.refusal import RowError
from poise.sources.roles import ROLES, role_of


@pytest.mark.parametrize(
    ("name", "role"),
    [("human", "user"), ("Human", "user"), ("GPT", "assistant"), ("bard", "assistant"), ("function_response", "tool")],
)
def test_role_is_known_in_any_case_of_letters(name: str, role: str):
    assert role_of(name, "messages[0].role") == role


def test_unknown_role_is_refused_with_the_known_ones():
    with pytest.raises(RowError) as caught:
        role_of("narrator", "messages[0].role")
    assert caught.value.where == " messages[0].role"
    assert "narrator" in caught.value.what
    assert all(name in caught.value.remedy for name in ROLES)
