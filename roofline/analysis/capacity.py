"""Whether a pass fits into a device's memory, and the largest batch that does."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from roofline.errors import ModelError, UsageError
from roofline.records import Analysis

# A search that has traced this often has met a peak that does not grow evenly: from there on it halves.
EVEN = 4


def largest(batch: int, nbytes: int, memory: int, peak: Callable[[int], int]) -> int | None:
    """The largest batch below `batch` whose peak fits; `batch` itself needs `nbytes`, which is more than there is.

    `peak` traces another batch. Peaks grow with the batch, mostly evenly, so that the answer and the next larger batch, which
    shows that it is the largest, are the second and third trace. 0: not one sample fits. None: other batches cannot be traced.
    """
    fits, least, tried = 0, 0, 0
    # one sample is refused where a batch norm trains on single values
    for start in (1, 2):
        if start >= batch:
            return 0 if start == 1 else None
        try:
            least = peak(start)
        except (ModelError, UsageError):
            continue
        if least > memory:
            return 0 if start == 1 else None
        fits = start
        break
    else:
        return None
    over, most = batch, nbytes
    while over - fits > 1:
        tried += 1
        guess = fits + (memory - least) * (over - fits) // max(most - least, 1) if tried <= EVEN else (fits + over) // 2
        guess = min(max(guess, fits + 1), over - 1)
        try:
            size = peak(guess)
        except (ModelError, UsageError):
            return None
        if size <= memory:
            fits, least = guess, size
        else:
            over, most = guess, size
    return fits


def checked(result: Analysis, peak: Callable[[int], int] | None) -> Analysis:
    """The analysis with what is known of its fit: nothing where the device's memory is not known."""
    memory, t = result.device.memory, result.totals
    if not memory:
        return result
    fits = t.peak_memory_bytes <= memory
    found = None
    if not fits:
        # another batch changes nothing where what every batch needs is too much already
        held = sum(t.peak_memory.get(kind, 0) for kind in ("parameters", "buffers"))
        if held > memory:
            found = 0
        elif peak is not None:
            found = largest(result.setting.batch, t.peak_memory_bytes, memory, peak)
    return replace(result, totals=replace(t, fits=fits, largest_batch=found))
