"""Saved analyses: one of a file, and how it was asked for, so that a model can be asked the same way on the same device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from roofline.devices.device import Device
from roofline.dtypes import INPUTS
from roofline.errors import UsageError
from roofline.records import Analysis, InputInfo


def one(path: Path) -> Analysis:
    """The analysis in a file. Raises UsageError where there is none, or where there are several."""
    from roofline.analysis.diff import read_analyses

    found = read_analyses(path)
    if len(found) > 1:
        devices = ", ".join(a.setting.device for a in found)
        raise UsageError(f"{path}: holds {len(found)} analyses ({devices}), and one is needed\nwrite one for each device")
    return found[0]


def given_of(analysis: Analysis) -> dict[str, Any]:
    """The options that ask for it again, by their names in `roofline.request`; the device by its name."""
    s = analysis.setting
    found: dict[str, Any] = {"device": s.device, "runtime": s.runtime, "training": s.mode == "training"}
    if not s.built:  # else it was analysed as it was built
        found["dtype"] = s.dtype
    found |= {name: True for name in ("channels_last", "fold_bn") if getattr(s, name)}
    if s.optimizer:
        found["optimizer"] = s.optimizer
    if s.host_status == "given":
        found["host"] = s.host_s
    if s.asked:
        asked: dict[str, Any] = {"batch": s.asked_batch, "inputs": s.inputs, "resolution": s.resolution, "turns": s.turns}
        asked["settings"] = dict(s.set)
        found |= {name: value for name, value in asked.items() if value not in (None, (), {})}
    else:
        # an older version kept the shapes alone
        texts = () if analysis.language else _inputs(analysis.model.inputs)
        found |= {"inputs": texts} if texts else {"batch": s.batch}
    return {**found, **(analysis.language.asked if analysis.language else {})}


def _inputs(inputs: tuple[InputInfo, ...]) -> tuple[str, ...]:
    """Shapes as `--input` takes them; nothing where one cannot be said so."""
    texts = []
    for i in inputs:
        dtype = "" if i.dtype in ("float32", "float16", "bfloat16") else f":{i.dtype}"
        if i.dtype not in INPUTS or not all(n > 0 for n in i.shape) or not (i.name.isdigit() or i.name.isidentifier()):
            return ()
        name = "" if i.name.isdigit() else f"{i.name}="
        texts.append(f"{name}{','.join(map(str, i.shape))}{dtype}")
    return tuple(texts)


def check_device(analysis: Analysis, where: str, device: Device) -> None:
    """Raises UsageError where the device that has the name now is not the one of the saved analysis."""
    from roofline.fingerprints import device_digest

    saved = analysis.device
    if saved.fingerprint:
        same = saved.fingerprint == device_digest(device)
    else:
        levels = [(level.name, level.size, level.bandwidth) for level in device.levels]
        same = saved.peaks == device.peaks() and [(x.name, x.size, x.bandwidth) for x in saved.levels] == levels
    if not same:
        raise UsageError(
            f"{where}: made with other numbers than those of the device {saved.name!r} here, so times cannot be compared\n"
            f"give the device that it was made with (-d FILE.toml), -d {saved.name} for the one here, or make {where} again"
        )
