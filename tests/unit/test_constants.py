"""Constants are declared: what is no such constant is refused by its name, what is stays in its range."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from msgspec.structs import asdict, fields

from roofline.devices.library import lookup
from roofline.errors import UsageError
from roofline.timemodel import constants
from roofline.timemodel.constants import Constants, Cpu, CpuEager, Gpu, shipped

FAMILIES = [Gpu, Cpu, CpuEager]


def refused(tmp_path: Path, text: str) -> str:
    file = tmp_path / "own.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        constants.read(file)
    return str(error.value).replace(f"{file} ", "")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_says_its_unit_and_range(family: type[Gpu]) -> None:
    for field in fields(family):
        if field.name != "source":
            meta = field.type.__metadata__[0]
            assert isinstance(meta.extra["unit"], str)
            assert 0 < meta.ge < meta.le < math.inf


@pytest.mark.parametrize("kind", Constants.__struct_fields__)
def test_the_shipped_ones_are_within(kind: str) -> None:
    found = getattr(shipped(), kind)
    assert found.source
    for name, (least, most) in constants.ranges(found).items():
        assert least <= getattr(found, name) <= most


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gpu]\ngem = 0.9\n", "[gpu] has unknown constants: gem; did you mean 'gemv' or 'gemm'?"),
        # a constant of another family is none of this one
        ("[cpu]\ndrain = 2\n", "[cpu] has unknown constants: drain; it is one of [gpu]"),
        ("[gpu]\ngemm = 1.01\n", "[gpu] gemm: expected a number from 1e-06 to 1 (a fraction), got 1.01"),
        ("[cpu]\nconv = 0\n", "[cpu] conv: expected a number from 1e-06 to 1 (a fraction), got 0"),
        ("[gpu]\ndrain = -1\n", "[gpu] drain: expected a number from 1e-06 to 1e+06 (microseconds), got -1"),
        ("[gpu]\ndrain = inf\n", "[gpu] drain: expected a number from 1e-06 to 1e+06 (microseconds), got inf"),
        ("[gpu]\ndrain = nan\n", "[gpu] drain: expected a number from 1e-06 to 1e+06 (microseconds), got nan"),
        ("[gpu]\ndrain = true\n", "[gpu] drain: expected a number from 1e-06 to 1e+06 (microseconds), got True"),
        ("[cpu]\nwelford = '20'\n", "[cpu] welford: expected a number from 1e-06 to 1e+06 (a number of cycles), got '20'"),
        ("[cpu]\nwelford = [20]\n", "[cpu] welford: expected a number from 1e-06 to 1e+06 (a number of cycles), got [20]"),
        ("[cpu_eager]\noverlap = 0.5\n", "[cpu_eager] overlap: expected a number from 1 to 16 (an exponent), got 0.5"),
        ("[gpu]\nsource = 3\n", "[gpu] source: expected a text, got 3"),
        # every one of them, by the file's order
        (
            "[gpu]\ngem = 1\nconv = 2\n[cpu]\nrnn = 7\n",
            "[gpu] has unknown constants: gem; did you mean 'gemv' or 'gemm'?\n"
            "[gpu] conv: expected a number from 1e-06 to 1 (a fraction), got 2\n"
            "[cpu] rnn: expected a number from 1e-06 to 1 (a fraction), got 7",
        ),
    ],
)
def test_what_is_none_is_refused_by_its_name(text: str, said: str, tmp_path: Path) -> None:
    assert refused(tmp_path, text) == said


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[cpu]\nconv = 1\n", encoding="utf-8")
    found = constants.read(file)
    assert (found.gpu, found.cpu_eager) == (shipped().gpu, shipped().cpu_eager)
    assert asdict(found.cpu) == asdict(shipped().cpu) | {"conv": 1.0, "source": str(file)}


@pytest.mark.parametrize("kind", Constants.__struct_fields__)
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(constants.text(kind, getattr(shipped(), kind), 'a "fit"\\'), encoding="utf-8")
    found = asdict(getattr(constants.read(file), kind))
    assert found.pop("source") == 'a "fit"\\'
    assert found == pytest.approx(
        {name: v for name, v in asdict(getattr(shipped(), kind)).items() if name != "source"}, rel=1e-3
    )


@pytest.mark.parametrize(
    ("device", "runtime", "family"),
    [("t4", "eager", Gpu), ("t4", "compiled", Gpu), ("i9-10940x", "compiled", Cpu), ("i9-10940x", "eager", CpuEager)],
)
def test_a_device_has_those_of_its_family(device: str, runtime: str, family: type) -> None:
    assert type(shipped().of(lookup(device), runtime)) is family
