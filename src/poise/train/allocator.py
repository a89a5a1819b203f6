"""Let the C library keep the memory that tensors leave, instead of handing it back and asking for it zeroed again.

And let oneDNN keep less.
"""

import ctypes
import os
import sys

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""mallopt's names for when glibc gives memory back, and from which size it asks the kernel for each block alone."""
LARGE = 1 << 30


def keep_freed_memory(device: torch.device) -> bool:
    """Raise both thresholds for training on the CPU under glibc; returns whether that was done.

    Every layer's activations are otherwise blocks of their own, whose pages the kernel fills with zeros each time: a
    tenth of a training step's time for blocks of 7 MB. The most memory held does not change. The other way round,
    oneDNN keeps a kernel with its workspace for each of the last 1,024 shapes of a 16-bit product, and micro-batches
    rarely repeat one: 64 are enough, and 170 MB less for a model of 7 M parameters.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGE)) and bool(mallopt(TRIM_THRESHOLD, LARGE))
