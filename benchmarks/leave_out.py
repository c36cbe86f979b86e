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
from pathlib import Path

from msgspec.structs import replace

from roofline.cli.terminal import note
from roofline.devices import library
from roofline.devices.device import Device
from roofline.timemodel import constants
from roofline.timemodel.constants import Constants, Family
from roofline.validation import fit, operator_tables, validate
from roofline.validation.model_tables import Reading

FRACTION = 0.8


def rounded(found: Family) -> Family:
    ranges = constants.ranges(found)
    return replace(
        found, **{n: FRACTION if most == 1 else float(f"{getattr(found, n):.1g}") for n, (_, most) in ranges.items()}
    )


def fitted(pairs: list[tuple[Path, Device]], folder: Path, limit: int, rounds: int) -> Constants:
    """The constants fitted from round values; each round after the first starts where the one before stopped."""
    kind = fit.family(pairs)
    start = replace(constants.shipped(), **{kind: rounded(getattr(constants.shipped(), kind))})
    for number in range(rounds):
        file = folder / f"{number}.toml"
        file.write_text(fit.fit(pairs, lambda text: None, Reading(limit=limit), start=start), encoding="utf-8")
        start = constants.read(file)
    return start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs=2, action="append", required=True, metavar=("TABLE", "DEVICE"))
    parser.add_argument("--limit", type=int, default=fit.SAMPLE, help="rows of each table to fit on")
    parser.add_argument("--rounds", type=int, default=2, help="of the fit, each from where the one before stopped")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
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
            place = Path(folder, name)
            place.mkdir()
            numbers = fitted(rest, place, args.limit, args.rounds)
            for path, target in models:
                found, _ = validate.run(path, target, constants=numbers)
                order = "n/a" if found.spearman is None else f"{found.spearman:.3f}"
                print(
                    f"| {target.title} | {path.name} | {found.rows} | {found.median_ape:.1%} | {found.p90_ape:.1%} | {order} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
