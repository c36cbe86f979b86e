"""A model built once for several of its passes, where that is the same as to build it for each.

Every pass leaves the module as it found it (`tracing.as_found`), and begins after what its building did: where chance then was,
what had been asked of the disk, the environment and the network. Built anew is a model of a person's own code, one whose
building changes the process or imports modules of its own, and one of which a pass failed or was run for real.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from roofline.sources.build import Builder
    from roofline.sources.source import Source


class Kept:
    """The module of the last source that was built; None where the next pass has to build its own."""

    def __init__(self) -> None:
        self._of = ""
        self._built: tuple[Any, nn.Module] | None = None
        self._left: list[Callable[[], None]] = []

    def forget(self) -> None:
        """The next pass builds its own."""
        self._built, self._left = None, []

    def real(self, builder: Builder) -> Callable[[], nn.Module]:
        """What builds it with values: a pass for real is the last of a module."""

        def build() -> nn.Module:
            self.forget()
            return builder(real=True)

        return build

    def built(self, found: Source) -> tuple[Builder, nn.Module]:
        """A builder of the source and its module. Raises what building raises."""
        from roofline.sources.build import Builder

        key = found.built_key
        if self._built is not None and key == self._of:
            make, module = self._built
            for again in self._left:
                again()
            return Builder(found, make), module
        self.forget()
        return self._first(found, key)

    def _first(self, found: Source, key: str) -> tuple[Builder, nn.Module]:
        from roofline.isolation import leftovers, modules, network, watching
        from roofline.sources import build

        before = leftovers.State(found.kind.code != "ours") if found.kind.code != "person" else None
        builder, module = build.made(found)
        if before is None or before.changed():
            return builder, module
        own = modules.asked()
        if own is None or (own.hashes and found.kind.code != "ours"):
            return builder, module
        self._of, self._built = key, (builder.make, module)
        self._left = [leftovers.chance(), network.again(), watching.again(), own.again()]
        return builder, module
