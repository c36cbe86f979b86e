"""How a saved analysis was asked for, so that another model can be asked the same way; on the same device or not at all."""

from __future__ import annotations

from typing import Any

from roofline.devices.device import Device
from roofline.dtypes import INPUTS
from roofline.errors import UsageError
from roofline.records import Analysis, InputInfo


def setting_of(analysis: Analysis) -> dict[str, Any]:
    """Arguments of `roofline.analyze` that ask for it again; the device by its name."""
    s = analysis.setting
    found: dict[str, Any] = {"device": s.device, "dtype": s.dtype, "runtime": s.runtime, "training": s.mode == "training"}
    if s.optimizer:
        found["optimizer"] = s.optimizer
    if s.host_status == "given":
        found["host"] = s.host_s
    if s.asked:
        asked = {"batch": s.asked_batch, "inputs": s.inputs, "resolution": s.resolution, "settings": dict(s.set)}
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
