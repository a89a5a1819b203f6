"""The encoder is an extra, and says so where it is missing."""

import re

import pytest

from poise.curate.encoder import needed
from poise.errors import ResourceError


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(ResourceError, match=re.escape("pip install 'poise[embed]'")):
        needed("poise_no_such_package")
