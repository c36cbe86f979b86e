"""What code that was written for a GPU gets from one that is not here: it waits for none, and holds nothing."""

from __future__ import annotations

from typing import Any


class _Stream:
    """A stream, an event or a device that does nothing: a context, and every method is one."""

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
    **dict.fromkeys(("Stream", "Event", "stream", "current_stream", "default_stream"), _Stream()),
    **dict.fromkeys(("device", "device_index"), _Stream()),
}
