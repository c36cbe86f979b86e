"""Whole passes on fewer cores: they never get faster, and how much slower."""

from __future__ import annotations

from itertools import pairwise

import pytest

from roofline import pipeline
from roofline.devices.library import lookup
from roofline.devices.threads import working
from roofline.kernels import build
from roofline.request import made
from roofline.timemodel import roof


@pytest.mark.parametrize("runtime", ["eager", "compiled"])
def test_fewer_threads_are_never_faster(runtime: str) -> None:
    trace = pipeline.trace_of(made("squeezenet1_1", {"device": "i9-10940x", "batch": 4}))
    kernels = build.build(trace, runtime, "cpu")
    for name in (
        "i9-10940x",
        "xeon-8380",
        "epyc-7763",
        "i7-12700h",
        "i9-13900k",
        "ryzen-9-7950x",
        "graviton3",
        "raspberry-pi-5",
    ):
        device = lookup(name)
        cores = int(device.units.value)
        counts = sorted({1, 2, 3, 4, cores // 2, cores - 1, cores} & set(range(1, cores + 1)))
        times = [sum(p.time_s for p in roof.place(kernels, working(device, n), runtime=runtime)) for n in counts]
        # Inductor leaves a loop that is too short for all of the threads on one of them: with fewer it may be shared
        rise = 1.0 if runtime == "eager" else 1.1
        assert all(many <= few * rise for few, many in pairwise(times)), (name, counts, times)
        assert times[0] <= cores * times[-1] * 1.01, "one core is not slower than all of them one after the other"
