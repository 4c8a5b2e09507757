"""Memory that was freed, given back to the system: allocators keep it, so that a stage's leavings would count until the run ends."""

import ctypes
import gc
import sys


def give_back() -> None:
    """Collects what is unreachable and returns free memory of Arrow's and of C's allocator (on Linux; elsewhere C's is left as it is)."""
    import pyarrow

    gc.collect()
    pyarrow.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
        if trim is not None:
            trim(0)
