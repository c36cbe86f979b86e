"""What a sweep writes: a row for each model in a setting on a device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, overload

from msgspec import Struct

from roofline.errors import UsageError

# How a row ended: it has its numbers; it cannot be asked (a device without the dtype); the model failed; the process that had
# it took too long, took too much memory, or died.
OK, REFUSED, FAILED, TIMEOUT, MEMORY, CRASHED = "ok", "refused", "failed", "timeout", "memory", "crashed"


class Row(Struct, frozen=True, kw_only=True, gc=False):
    """One model in one setting on one device, in base units; what is not known of one that failed is None."""

    # digest of all that the row depends on; of what it depends on beside model, setting and device
    key: str
    version: str
    # as asked for
    model: str
    # samples that go in
    batch: int | None = None
    resolution: int | None = None
    inputs: str = ""
    settings: str = ""
    # as asked for, else the model's own
    dtype: str = ""
    runtime: str
    # "inference", "training", "prefill" or "decode"; tokens of the prompt, or in the cache
    mode: str
    optimizer: str = ""
    # "channels-last" where that was asked for
    layout: str = ""
    # "folded" where batch norms are folded into the layers before them
    norms: str = ""
    # of each loop where data decide how often it turns, where that was asked for
    turns: int | None = None
    tokens: int | None = None
    device: str
    # "gpu" or "cpu"; where its numbers come from
    kind: str
    tier: str
    # s that the host needs to issue an operator, where that was asked for
    host: float | None = None
    params: int | None = None
    macs: int | None = None
    flops: int | None = None
    bytes: int | None = None
    weight_bytes: int | None = None
    intensity: float | None = None
    kernels: int | None = None
    peak_memory: int | None = None
    # whether the peak fits; None: the device's memory is not known
    fits: bool | None = None
    time: float | None = None
    # the 80 % interval of the time
    time_low: float | None = None
    time_high: float | None = None
    # J of a sample and their 80 % interval; None where the device's power is not known
    energy: float | None = None
    energy_low: float | None = None
    energy_high: float | None = None
    throughput: float | None = None
    bound: str = ""
    # fractions of the time
    compute: float | None = None
    instructions: float | None = None
    memory: float | None = None
    overhead: float | None = None
    # fraction of the kernels whose FLOPs are known
    flops_known: float | None = None
    status: str = OK
    error: str = ""
    # where the model is from; digest of the device's numbers
    source: str = ""
    fingerprint: str
    roofline: str
    torch: str
    # digest of the constants of the time model
    constants: str
    # a person's own files that the row depends on, with their content
    depends: str = ""


COLUMNS = Row.__struct_fields__


# By what rows are sorted, whoever wrote them first.
ORDER = (
    "model",
    "batch",
    "resolution",
    "inputs",
    "settings",
    "dtype",
    "runtime",
    "mode",
    "optimizer",
    "layout",
    "norms",
    "turns",
    "tokens",
    "device",
    "host",
    "key",
)
_cells = attrgetter(*ORDER)


def order(row: Row) -> tuple[object, ...]:
    """Where a row stands."""
    return placed(_cells(row))


def placed(cells: Iterable[Any]) -> tuple[object, ...]:
    """The same by the cells of ORDER: what is not said comes first."""
    return tuple(0 if cell is None else cell for cell in cells)


class Rows(Sequence[Row]):
    """The rows of a sweep, in order."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Rows: ...
    def __getitem__(self, at: int | slice) -> Row | Rows:
        return Rows(self._rows[at]) if isinstance(at, slice) else self._rows[at]

    def __repr__(self) -> str:
        return f"<{len(self)} rows of a sweep; to_pandas() makes a data frame of them>"

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with a column for each field of Row. Raises UsageError where pandas is not here."""
        try:
            import pandas
        except ImportError:
            raise UsageError("a data frame needs pandas: pip install pandas") from None
        return pandas.DataFrame({name: [getattr(row, name) for row in self] for name in COLUMNS})
