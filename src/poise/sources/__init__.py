"""Where Examples come from: a file, a folder or a Hub dataset, recognised by the shape of its columns."""

from poise.sources.loading import Loaded, load
from poise.sources.spec import SourceSpec

__all__ = ["Loaded", "SourceSpec", "load"]
