"""Imports of libraries that nothing asks for yet, put off until something does.

`torchvision.ops.roi_align` imports torch._dynamo, and sympy with it, in its head: for one function, which it calls for tensors
on a GPU in deterministic mode. That is more than a second of the first analysis of any model that imports torchvision.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_WHERE = "torchvision.ops.roi_align"
_PACKAGE, _MODULE, _NAME = "torch._dynamo", "torch._dynamo.utils", "is_compile_supported"


@contextmanager
def imports() -> Iterator[None]:
    """Meanwhile torchvision is imported without torch._dynamo, where that is not here already."""
    sys.meta_path.insert(0, _FINDER)
    try:
        yield
    finally:
        if _FINDER in sys.meta_path:
            sys.meta_path.remove(_FINDER)


def _asked(*args: Any) -> Any:
    """Torch's own answer, for which it is imported."""
    return getattr(importlib.import_module(_MODULE), _NAME)(*args)


class _Loader(SourceFileLoader):
    """Runs the file with stand-ins in the place of what it imports; for real where it wants more of them than that function."""

    def exec_module(self, module: ModuleType) -> None:
        stand_ins = {name: ModuleType(name) for name in (_PACKAGE, _MODULE) if name not in sys.modules}
        if len(stand_ins) == 2:
            setattr(stand_ins[_MODULE], _NAME, _asked)
            sys.modules.update(stand_ins)
            try:
                return super().exec_module(module)
            except (ImportError, AttributeError):
                pass
            finally:
                for name, stand_in in stand_ins.items():
                    if sys.modules.get(name) is stand_in:
                        del sys.modules[name]
        return super().exec_module(module)


class _Finder:
    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _WHERE or _PACKAGE in sys.modules:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


_FINDER = _Finder()
