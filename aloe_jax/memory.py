"""Giving memory back to the system between pieces of work that each need much of it."""

import ctypes
import gc


def release() -> None:
    """Free what is garbage and return the allocator's free pages.

    Libraries keep device arrays in reference cycles, and glibc keeps the pages of freed buffers: after a checkpoint of
    a 135M model that is more than a gigabyte. Where the allocator is another one, only the first part happens.
    """
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
