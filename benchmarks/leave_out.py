"""Predict each device with constants that were fitted without it.

    python benchmarks/leave_out.py --table TABLE DEVICE [--table TABLE DEVICE ...] [--limit 400] [--rounds 2]

For every device with a table of models, the constants are fitted as `roofline validate --fit` does, on the tables of the
other devices, and its own tables are predicted with them. The fit starts from round values: every fraction is 0.8 and every
other constant has one significant digit, so nothing is left of the shipped ones but their order of magnitude.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

from roofline import paths
from roofline.cli.terminal import note
from roofline.devices import library
from roofline.devices.device import Device
from roofline.timemodel import roof
from roofline.validation import fit, operator_tables, validate
from roofline.validation.model_tables import Reading

FRACTION = 0.8


def rounded(constants: Mapping[str, float]) -> dict[str, float]:
    return {name: FRACTION if name in fit.FRACTIONS else float(f"{value:.1g}") for name, value in constants.items()}


def fitted(pairs: list[tuple[Path, Device]], folder: Path, limit: int, rounds: int) -> Path:
    """A file of constants fitted from round values; each round after the first starts where the one before stopped."""
    kind = fit.family(pairs)
    start = folder / "round.toml"
    lines = [f"[{kind}]", *(f"{name} = {value:g}" for name, value in rounded(roof.constants(kind)).items())]
    start.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number in range(rounds):
        roof.use(start)
        start = folder / f"{number}.toml"
        start.write_text(fit.fit(pairs, lambda text: None, Reading(limit=limit)), encoding="utf-8")
    return start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs=2, action="append", required=True, metavar=("TABLE", "DEVICE"))
    parser.add_argument("--limit", type=int, default=fit.SAMPLE, help="rows of each table to fit on")
    parser.add_argument("--rounds", type=int, default=2, help="of the fit, each from where the one before stopped")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    shipped = paths.CONSTANTS
    pairs = [(Path(path), library.lookup(name)) for path, name in args.table]
    names = dict.fromkeys(d.name for _, d in pairs)
    print("| left out | table | rows | median | 90th pct | Spearman |\n| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            models = [(p, d) for p, d in pairs if d.name == name and not operator_tables.recognise(p)]
            rest = [(p, d) for p, d in pairs if d.name != name]
            if not models or not rest:
                continue
            note(f"{name}: fitting without it")
            roof.use(shipped)
            place = Path(folder, name)
            place.mkdir()
            roof.use(fitted(rest, place, args.limit, args.rounds))
            for path, target in models:
                found, _ = validate.run(path, target)
                order = "n/a" if found.spearman is None else f"{found.spearman:.3f}"
                print(
                    f"| {target.title} | {path.name} | {found.rows} | {found.median_ape:.1%} | {found.p90_ape:.1%} | {order} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
