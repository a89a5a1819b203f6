"""pyarrow's compute functions, which it makes while it is imported, so that no type checker knows them."""

from typing import Any

import pyarrow.compute

compute: Any = pyarrow.compute
