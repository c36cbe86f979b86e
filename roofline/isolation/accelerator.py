"""What code that was written for a GPU gets from one that is not here: it waits for none, holds nothing, and is told of the one
that was asked for what its data say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from roofline.devices import power
from roofline.devices.device import Device


class _Stream:
    """A stream, an event or a device that does nothing: a context, and every method is one. It stands where a class stood,
    since code may ask whether something is of that class (torch itself does); whoever makes one gets the same."""

    _one: ClassVar[Any] = None

    def __new__(cls, *_: Any, **__: Any) -> Any:
        cls._one = cls._one or super().__new__(cls)
        return cls._one

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: {"query": True, "elapsed_time": 0.0}.get(name, self)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass


# What code that was written for one GPU asks of it on its way, of torch.cuda, torch.xpu and torch.accelerator, and what it gets
# from one that does nothing.
IDLE: dict[str, Any] = {
    "synchronize": None,
    "empty_cache": None,
    "set_device": None,
    "current_device": 0,
    "memory_allocated": 0,
    "max_memory_allocated": 0,
    "memory_reserved": 0,
    "reset_peak_memory_stats": None,
    "max_memory_reserved": 0,
    "memory_summary": "",
    "set_stream": None,
    "init": None,
    "ipc_collect": None,
    "is_current_stream_capturing": False,
    "set_per_process_memory_fraction": None,
    **dict.fromkeys(("set_device_index", "set_device_idx")),
    **dict.fromkeys(("current_device_index", "current_device_idx"), 0),
    **dict.fromkeys(("Stream", "Event", "stream", "current_stream", "default_stream", "device", "device_index"), _Stream),
}


class Board:
    """The GPU that was asked for, as torch tells of one, and whether it was asked about."""

    def __init__(self, device: Device) -> None:
        self.device, self.asked = device, False
        # whether code that was told that there is no GPU wanted to know
        self.missed = False

    @property
    def key(self) -> str:
        """All that is told of it."""
        return repr((self.name(), self.memory()[0], self.units, power.capability(self.device)))

    @property
    def units(self) -> int:
        return int(self.device.units.value)

    def name(self, *_: Any, **__: Any) -> str:
        self.asked = True
        return self.device.title

    def capability(self, *_: Any, **__: Any) -> tuple[int, int]:
        self.asked = True
        found = power.capability(self.device)
        if found is None:
            raise RuntimeError(f"the compute capability of the {self.device.title} is not known here")
        return found

    def memory(self, *_: Any, **__: Any) -> tuple[int, int]:
        """Bytes that are free, and all: nothing else is on it."""
        self.asked = True
        total = int(self.device.levels[-1].size)
        return total, total

    def properties(self, *_: Any, **__: Any) -> _Properties:
        self.asked = True
        return _Properties(self)

    def halves(self, including_emulation: bool = True) -> bool:
        """Whether it computes in bfloat16, which older ones do in fp32."""
        return including_emulation or self.capability() >= (8, 0)


class _Properties:
    """What torch.cuda.get_device_properties() gives, as far as a device's data tell."""

    def __init__(self, board: Board) -> None:
        self.name, self.total_memory = board.name(), board.memory()[0]
        self.multi_processor_count = board.units
        self.clock_rate = int(board.device.clock.value / 1e3)  # in kHz
        self.L2_cache_size = int(next((level.size for level in board.device.levels if level.name == "L2"), 0))
        if (found := power.capability(board.device)) is not None:
            self.major, self.minor = found

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the {name} of a GPU that is not here is not known; what is: {', '.join(vars(self))}")


_boards: list[Board] = []


@contextmanager
def board(device: Device) -> Iterator[Board]:
    """Meanwhile code that asks which GPU it runs on is told of this one, where there is none here."""
    _boards.append(Board(device))
    try:
        yield _boards[-1]
    finally:
        _boards.pop()


def missed() -> None:
    """Code that builds a model was told that there is no GPU."""
    if _boards:
        _boards[-1].missed = True


def answers() -> dict[str, Callable[..., Any]]:
    """What gives IDLE, and tells of the GPU that was asked for."""
    now = _boards[-1] if _boards and _boards[-1].device.kind == "gpu" else None
    told: dict[str, Callable[..., Any]] = {} if now is None else {
        "get_device_name": now.name,
        "get_device_properties": now.properties,
        "get_device_capability": now.capability,
        "mem_get_info": now.memory,
        "get_memory_info": now.memory,
        "is_bf16_supported": now.halves,
    }  # fmt: skip
    return {name: value if value is _Stream else partial(_given, value) for name, value in IDLE.items()} | told


def _given(value: Any, *_: Any, **__: Any) -> Any:
    return value
