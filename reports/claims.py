"""The claims about MobileNets, settled: what is claimed, what the program computes, what others measured, and a verdict.

`page()` is claims.md. Every computed number is analysed anew; measured ones are single figures of the sources that they name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import roofline
from roofline import units
from roofline.records import Analysis
from roofline.units import count, percent

import measured

# of the reference models' files
ROOT = Path(__file__).resolve().parent.parent
CPU, GPU, BOARD = "i9-10940x", "rtx-4090", "raspberry-pi-4"
HEAD = """\
# Claims about MobileNets, settled

Made by `python reports/make.py`; a test regenerates it and compares. Thirteen sentences that articles repeat. *Computed* is what
the program says, with the command that shows it; times are predictions from data sheets. *Measured* is what others measured, each
a single figure of the source named: *timm* are the tables in `results/` of huggingface/pytorch-image-models (RTX 4090: eager under
autocast, batch 1024; i9-10940X: torch.compile, fp32, batch 1). *Measured here* is what `python reports/measured.py` says on your
machine, of all that a clock can settle: ratios of what `roofline measure` measures (eager, fp32, one sample), with the ends over
{rounds} rounds, beside what is predicted for the machine. Made on
{machine}; yours will differ.

| | claim | verdict |
| ---: | --- | --- |
"""


class Claim(NamedTuple):
    """`computed` and `reason` are filled in with the numbers that `numbers` gives."""

    claimed: str
    commands: tuple[str, ...]
    computed: str
    measured: str
    verdict: str
    reason: str
    numbers: Callable[[], dict[str, str]]


@cache
def ask(model: str, device: str = CPU, **options: Any) -> Analysis:
    model = str(ROOT / model) if model.startswith("models/") else model
    return roofline.analyze(model, device=device, **{k: list(v) if isinstance(v, tuple) else v for k, v in options.items()})


@cache
def with_settings(model: str, device: str = CPU, **settings: Any) -> Analysis:
    return roofline.analyze(model, device=device, settings=settings)


def times(many: float, few: float) -> str:
    """How many times, to two digits."""
    return f"{many / few:.2g}" if many / few < 100 else f"{many / few:.0f}"


# ------------------------------------------------------------------------------------------------ the numbers of each


def separable() -> dict[str, str]:
    plain, split = (ask(f"models/separable.py:{name}", inputs=("1,3,12,12",)) for name in NAMES)
    wide = {"cin": 256, "cout": 256, "kernel": 3, "padding": 1}
    three = [
        roofline.analyze(f"{ROOT}/models/separable.py:{n}", device=CPU, settings=wide, inputs=["1,256,14,14"]) for n in NAMES
    ]
    return {
        "params": f"{plain.model.params:,}",
        "few": f"{split.model.params:,}",
        "macs": f"{plain.totals.macs:,}",
        "fewer": f"{split.totals.macs:,}",
        "ratio": times(plain.totals.macs, split.totals.macs),
        "three": times(three[0].totals.macs, three[1].totals.macs),
        "pace": times(three[0].totals.time_s, three[1].totals.time_s),
    }


NAMES = ("standard_conv", "separable_conv")


def multipliers() -> dict[str, str]:
    one = ask("mobilenet_v1")
    widths = {w: with_settings("mobilenet_v1", width_mult=w) for w in ("0.75", "0.5", "0.25")}
    sizes = {r: ask("mobilenet_v1", resolution=r) for r in (192, 160, 128)}
    layers = sum(row.type in ("Conv2d", "Linear") for row in one.layers)
    return {
        "layers": str(layers),
        "macs": count(one.totals.macs),
        "params": count(one.model.params),
        "widths": ", ".join(f"{count(a.totals.macs)} ({a.totals.macs / one.totals.macs:.3f})" for a in widths.values()),
        "sizes": ", ".join(f"{count(a.totals.macs)} ({a.totals.macs / one.totals.macs:.3f})" for a in sizes.values()),
        "same": "the same" if {a.model.params for a in sizes.values()} == {one.model.params} else "other",
    }


def intensity() -> dict[str, str]:
    mobile, vgg = (ask(m, runtime="ideal") for m in ("mobilenet_v1", "vgg16"))
    found = {}
    for batch in (1, 1024):
        a, b = (ask(m, GPU, batch=batch, dtype="amp") for m in ("mobilenet_v1", "vgg16"))
        found[f"gain{batch}"] = times(a.totals.throughput, b.totals.throughput)
        found[f"bound{batch}"] = a.totals.bound
    return found | {
        "own": f"{mobile.totals.intensity:.3g}",
        "other": f"{vgg.totals.intensity:.3g}",
        "fewer": times(vgg.totals.macs, mobile.totals.macs),
        "less": times(vgg.totals.bytes, mobile.totals.bytes),
    }


def on_a_cpu() -> dict[str, str]:
    mobile, resnet, vgg, timms, three = (
        ask(m, runtime="compiled") for m in ("mobilenet_v1", "resnet50", "vgg16", "timm:vgg16", "mobilenet_v3_large")
    )
    classifier = timms.totals.time_s - vgg.totals.time_s
    peak = mobile.device.peak_flops
    return {
        "reached": percent(mobile.totals.achieved_flops, peak),
        "three": percent(three.totals.achieved_flops, peak),
        "resnet": times(resnet.totals.time_s, mobile.totals.time_s),
        "vgg": times(vgg.totals.time_s, mobile.totals.time_s),
        "timms": times(timms.totals.time_s, mobile.totals.time_s),
        "packed": percent(classifier, timms.totals.time_s),
        "full": percent(resnet.totals.achieved_flops, peak),
        # 4.013 ms of timm's table
        "measured": percent(mobile.totals.flops / 4.013e-3, peak),
    }


def ideal() -> dict[str, str]:
    ideal, eager, compiled = (ask("mobilenet_v1", runtime=r) for r in ("ideal", "eager", "compiled"))
    sizes = [units.si(a.totals.bytes, "B") for a in (ideal, eager, compiled)]
    weights = units.si(ideal.totals.weight_bytes, "B")
    return {"ideal": sizes[0], "eager": sizes[1], "compiled": sizes[2], "weights": weights}


def inverted() -> dict[str, str]:
    paper, article = ask("mobilenet_v2"), ask("mobilenet_v2_article")
    inside = [
        row.output[1] for row in paper.layers if row.path.startswith("features.2.") and row.type == "Conv2d" and row.output
    ]
    came = next(row.output for row in paper.layers if row.path == "features.1")
    return {
        "shape": " -> ".join(str(n) for n in [came[1] if came else 0, *inside]),
        "macs": count(paper.totals.macs),
        "params": count(paper.model.params),
        "article": count(article.totals.macs),
        "more": count(article.model.params),
    }


def centernet() -> dict[str, str]:
    dla, one, two = (
        ask(f"models/centernet.py:centernet_{n}", inputs=("1,3,512,512",)) for n in ("dla34", "mobilenet_v1", "mobilenet_v2")
    )
    every = (dla, one, two)
    return {
        "params": ", ".join(count(a.model.params) for a in every),
        "time": ", ".join(units.seconds(a.totals.time_s) for a in every),
        "ratios": f"{times(dla.totals.time_s, one.totals.time_s)} : 1 : {times(two.totals.time_s, one.totals.time_s)}",
        "bytes": units.si(two.model.param_bytes, "B"),
    }


def replace_resnet() -> dict[str, str]:
    pairs = {
        "cpu": [ask(m, runtime="compiled") for m in ("resnet50", "mobilenet_v3_large")],
        "eager": [ask(m) for m in ("resnet50", "mobilenet_v3_large")],
        "board": [ask(m, BOARD) for m in ("resnet50", "mobilenet_v3_large")],
    }
    found = {name: times(a.totals.time_s, b.totals.time_s) for name, (a, b) in pairs.items()}
    return found | {"fewer": times(pairs["cpu"][0].totals.macs, pairs["cpu"][1].totals.macs)}


def tail() -> dict[str, str]:
    found = {}
    for name, device in (("cpu", CPU), ("board", BOARD)):
        plain, short = ask("mobilenet_v3_large", device), with_settings("mobilenet_v3_large", device, reduced_tail=True)
        found[name] = percent(plain.totals.time_s - short.totals.time_s, plain.totals.time_s)
        found["macs"] = percent(plain.totals.macs - short.totals.macs, plain.totals.macs)
    dilated = with_settings("mobilenet_v3_large", dilated=True)
    narrow = with_settings("mobilenet_v3_large", width_mult=0.35)
    odd = [r for r in narrow.layers if r.path.startswith("features.") and r.type == "Conv2d" and r.output and r.output[1] % 8]
    return found | {
        "dilated": count(dilated.totals.macs),
        "plain": count(ask("mobilenet_v3_large").totals.macs),
        "odd": str(len(odd)),
    }


def halves() -> dict[str, str]:
    found = {}
    for name, device in (("cpu", CPU), ("board", "raspberry-pi-5")):
        plain = ask("torchvision:mobilenet_v3_large", device)
        quantised = with_settings("torchvision:quantized_mobilenet_v3_large", device, quantize=True)
        found[name] = times(plain.totals.time_s, quantised.totals.time_s)
    t = ask("torchvision:mobilenet_v3_large").totals
    return found | {
        "arithmetic": percent(t.time_by_bound["compute"], t.time_s),
        "memory": percent(t.time_by_bound["memory"], t.time_s),
        "rest": percent(t.time_by_bound["overhead"] + t.time_by_bound["instructions"], t.time_s),
    }


def detectors() -> dict[str, str]:
    fast, slow = (ask(f"torchvision:fasterrcnn_{n}_fpn") for n in ("mobilenet_v3_large", "resnet50"))
    deep, fcn, lraspp = (ask(f"torchvision:{n}") for n in ("deeplabv3_mobilenet_v3_large", "fcn_resnet50", LRASPP))
    small = ask(f"torchvision:{LRASPP}", resolution=320)
    return {
        "rcnn": times(slow.totals.time_s, fast.totals.time_s),
        "rcnn_macs": times(slow.totals.macs, fast.totals.macs),
        "deep": times(fcn.totals.time_s, deep.totals.time_s),
        "deep_macs": times(fcn.totals.macs, deep.totals.macs),
        "less": percent(lraspp.totals.time_s - small.totals.time_s, lraspp.totals.time_s),
        "less_macs": percent(lraspp.totals.macs - small.totals.macs, lraspp.totals.macs),
        "lraspp": times(deep.totals.time_s, lraspp.totals.time_s),
    }


LRASPP = "lraspp_mobilenet_v3_large"


def ghosts() -> dict[str, str]:
    ghost, plain = (ask(f"models/ghostnet.py:{n}", inputs=("1,256,56,56",)) for n in ("ghost_module", "plain_module"))
    net, three = ask("ghostnet", runtime="compiled"), ask("mobilenet_v3_large", runtime="compiled")
    return {
        "macs": percent(ghost.totals.macs, plain.totals.macs),
        "time": percent(ghost.totals.time_s, plain.totals.time_s),
        "net": count(net.totals.macs),
        "three": count(three.totals.macs),
        "slower": times(net.totals.time_s, three.totals.time_s),
    }


def squeeze() -> dict[str, str]:
    found = {}
    for name, device, options in (("cpu", CPU, {}), ("gpu", GPU, {"batch": 256, "dtype": "amp"})):
        plain, more = (ask(m, device, **options) for m in ("resnet50_v1", "se_resnet50"))
        found[name] = f"{100 * (more.totals.time_s / plain.totals.time_s - 1):.0f} %"
        found["macs"] = f"{100 * (more.totals.macs / plain.totals.macs - 1):.2f} %"
        found["params"] = f"{100 * (more.model.params / plain.model.params - 1):.0f} %"
    return found


# ------------------------------------------------------------------------------------------------ the claims

CLAIMS = (
    Claim(
        "A separable 5x5 convolution from 12x12x3 to 8x8x256 has Dk·Dk·M + M·N parameters in place of Dk·Dk·M·N, and multiply-adds "
        "those times Dw·Dh. With 3x3 kernels the separable form takes 8 to 9 times fewer.",
        ("roofline analyze models/separable.py:standard_conv --input 1,3,12,12",
         "roofline analyze models/separable.py:separable_conv --input 1,3,12,12"),
        "{params} parameters and {macs} MACs beside {few} and {fewer}: {ratio} times fewer. 3x3, 256 to 256 channels: {three} times "
        "fewer MACs, and {pace} times the speed on an i9-10940X.",
        "Not a time: parameters and multiply-adds follow from the shapes.",
        "holds",
        "5·5·3·256 = 19,200 and 5·5·3 + 3·256 = 843, times 64 places. The gain in time is smaller than that in multiply-adds: the "
        "depthwise half moves as many bytes for a small part of the arithmetic.",
        separable,
    ),
    Claim(
        "MobileNetV1 has 28 layers, depthwise and pointwise counted apart; the width multiplier scales cost about quadratically, the "
        "resolution multiplier quadratically and no parameters.",
        ("roofline analyze mobilenet_v1 --set width_mult=0.5", "roofline analyze mobilenet_v1 --resolution 160"),
        "{layers} convolutions and linear layers; {macs} MACs and {params} parameters. Width 0.75, 0.5, 0.25: {widths}. Resolution "
        "192, 160, 128: {sizes}, parameters {same}.",
        "The paper prints 569, 325, 149 and 41 M for the widths, 418, 290 and 186 M for the resolutions (arXiv 1704.04861, tables 6, 7).",
        "holds",
        "Squares would be 0.563, 0.25 and 0.063: a depthwise convolution grows with the width and not with its square, and the first "
        "layer has 3 input channels at any width. For resolutions the squares are 0.735, 0.510 and 0.327.",
        multipliers,
    ),
    Claim(
        "MobileNet's FLOPs and traffic are both small, so its intensity is lower than VGG's; on a GPU it sits in the memory-bound region "
        "and gains no speed, sometimes loses it.",
        ("roofline compare vgg16 mobilenet_v1 -d rtx-4090 -b 1 -b 1024 --dtype amp",),
        "Ideal traffic: {own} FLOP/B beside VGG-16's {other}; {fewer} times fewer MACs, {less} times fewer bytes. RTX 4090: {gain1} times "
        "VGG-16's speed at batch 1 ({bound1}-bound), {gain1024} times at batch 1024 ({bound1024}-bound).",
        "timm, RTX 4090: MobileNetV1 takes 74.5 ms, VGG-16 458 ms for 1024 images: 6.1 times as fast. Ours, on an H200 (eager fp32, torch "
        "2.11): 2.24 ms beside VGG-16's 1.98 at batch 1, so it is slower there, and 5.64 beside 51.6 ms at batch 64, 9.1 times as fast "
        "(`roofline measure mobilenet_v1 -d gpu -b 1`).",
        "holds in part",
        "The intensity is lower and a full batch is bound by memory, but it gains five to six times there, where the multiply-adds promise 27: "
        "VGG-16 is held by arithmetic and MobileNet by its bytes. At batch 1 nearly nothing is gained or a tenth is lost, and the reason is the host that issues kernels, not memory: MobileNetV1 has 83, VGG-16 37.",
        intensity,
    ),
    Claim(
        "On a CPU, whose compute is limited, MobileNet can reach the theoretical peak, and gains more than three times in speed.",
        ("roofline analyze mobilenet_v1 -d i9-10940x --runtime compiled", "roofline analyze timm:vgg16 -d i9-10940x --runtime compiled"),
        "i9-10940X, compiled, batch 1: MobileNetV1 reaches {reached} of the peak, MobileNetV3-Large {three}, ResNet-50 {full}. MobileNetV1 "
        "is {resnet} times as fast as ResNet-50, {vgg} times as fast as VGG-16 and {timms} times as fast as timm's, "
        "which takes {packed} of its time for the two layers that are convolutions there.",
        "timm, i9-10940X: MobileNetV1 4.01 ms, which is {measured} of the peak; ResNet-50 14.9 ms (3.7 times), VGG-16 118 ms (29 times).",
        "the speed holds, the peak does not",
        "Fewer multiply-adds do pay on a CPU, but no MobileNet comes near its peak: depthwise convolutions, normalisations and "
        "activations move bytes, and dispatching and starting threads take their share of the few milliseconds. The measured VGG-16 is "
        "timm's, whose classifier is made of convolutions: oneDNN packs their weights, 0.48 GB, into its own order in every pass, which "
        "linear layers are spared. So MobileNet is seven times as fast as a VGG-16 with linear layers.",
        on_a_cpu,
    ),
    Claim(
        "Memory traffic in the ideal case (no on-chip cache) is the weights plus every layer's output, times four bytes.",
        ("roofline analyze mobilenet_v1 --runtime ideal", "roofline analyze mobilenet_v1 --runtime eager"),
        "MobileNetV1, fp32: {ideal} in that count, {weights} of it weights. As eager PyTorch runs it {eager}, compiled {compiled}.",
        "Not a time: a definition. What really moves depends on caches, which no published table of these models reports.",
        "holds as a definition",
        "It counts no reads of activations. A run without any cache reads every input again, which is what the eager count has; fusion "
        "then takes away the traffic of normalisations and activations.",
        ideal,
    ),
    Claim(
        "MobileNetV2's inverted residual expands, filters, projects: two ends small, middle large. (A variant puts a convolution on the "
        "shortcut of every stride-1 block and has one block more per stage.)",
        ("roofline analyze mobilenet_v2 --depth 4", "roofline analyze mobilenet_v2_article"),
        "Channels through features.2: {shape}. {macs} MACs and {params} parameters; the variant {article} and {more}.",
        "Not a time: the paper prints 300 M and 3.4 M (arXiv 1801.04381, table 4).",
        "holds",
        "The variant is another net: dearer by more than half, since the identity shortcut is free and a convolution is not.",
        inverted,
    ),
    Claim(
        "As the backbone of CenterNet at 512x512: parameters DLA-34 about 20 M, MobileNetV1 3.2 M, MobileNetV2 4.3 M (17 MB); CPU time "
        "1.2 s, 250 ms, 600 ms.",
        ("roofline analyze models/centernet.py:centernet_mobilenet_v1 --input 1,3,512,512 -d i9-10940x",),
        "Parameters {params} ({bytes} the last). i9-10940X: {time}, ratios {ratios}.",
        "The claim's own times, on a CPU that it does not name: ratios 4.8 : 1 : 2.4. No published table has these nets.",
        "holds",
        "The ratios are the claimed ones within a fifth; the times are those of a CPU more than ten times slower than the i9-10940X. "
        "MobileNetV2 has fewer multiply-adds than V1 here and takes twice as long: it moves twice the bytes.",
        centernet,
    ),
    Claim(
        "MobileNetV3-Large can replace ResNet-50 at about 6 times the CPU speed for some accuracy.",
        ("roofline compare resnet50 mobilenet_v3_large -d i9-10940x --runtime compiled", "roofline compare resnet50 mobilenet_v3_large -d raspberry-pi-4"),
        "{fewer} times fewer MACs. i9-10940X: {cpu} times as fast compiled, {eager} times eager; Raspberry Pi 4: {board} times.",
        "timm, i9-10940X: 5.66 ms beside 14.9 ms, 2.6 times. On a Raspberry Pi 4 XNNPACK takes 38 ms for MobileNetV3-Large (its README, 2022) "
        "and ncnn 262 ms for ResNet-50 (its benchmark/README): 6.9 times, across two runtimes.",
        "holds when dispatch is cheap",
        "On a desktop CPU at batch 1 most of its time is overhead; on a slow core with a lean runtime the arithmetic counts and the gain "
        "grows. Six times needs both: the Raspberry Pi under eager PyTorch is not predicted to get there. One thread alone is slow enough "
        "beside its dispatch to pass it.",
        replace_resnet,
    ),
    Claim(
        "`reduced_tail` halves the channels of the last block and saves 15 % of the latency; `dilated` turns the last three blocks' "
        "depthwise convolutions into atrous ones; `width_mult` rounds channels to multiples of 8.",
        ("roofline analyze mobilenet_v3_large --set reduced_tail=true -d raspberry-pi-4", "roofline analyze mobilenet_v3_large --set dilated=true"),
        "reduced_tail takes {macs} of the MACs away, and {cpu} of the time on an i9-10940X, {board} on a Raspberry Pi 4, both eager. "
        "dilated: {dilated} MACs in place of {plain}, since the last stage keeps its size. At width 0.35 {odd} convolutions of the "
        "features have channels that are no multiple of 8.",
        "The paper's 15 % are of latency on a Pixel phone with TF-Lite (arXiv 1905.02244); no table of PyTorch has the variant.",
        "holds when arithmetic sets the time",
        "It saves multiply-adds and no kernel, so where dispatch takes most of the time little is saved. The other two are properties of "
        "the code, and hold.",
        tail,
    ),
    Claim(
        "The int8 MobileNetV3-Large (QNNPACK) runs 2.5 times as fast as fp32.",
        (
            "roofline analyze torchvision:quantized_mobilenet_v3_large --set quantize=true -d i9-10940x -d raspberry-pi-5",
            "roofline analyze torchvision:mobilenet_v3_large -d i9-10940x -d raspberry-pi-5",
        ),
        "PyTorch's own int8 kernels are {cpu} times as fast on an i9-10940X and {board} times on a Raspberry Pi 5. Of the fp32 time on the "
        "i9-10940X {arithmetic} is arithmetic, {memory} memory and {rest} neither, which int8 does not shorten.",
        "TF-Lite on a Pixel 3: 44 ms in float, 32 ms in int8, 1.4 times; on a Pixel 1 51.2 and 44 ms, 1.2 times (tensorflow/models). "
        "XNNPACK on a Raspberry Pi 4: MobileNetV1 72 and 29 ms, 2.5 times; V2 41 and 20 ms, 2.1 times.",
        "holds in part",
        "2.5 is what MobileNetV1 gains, which is convolutions and little else. V3's squeeze-and-excitation and hard-swish are a larger part of "
        "its time and gain less: 1.2 to 1.4 times on phones. With one thread, which starts none, int8 gains more, as it does here.",
        halves,
    ),
    Claim(
        "Faster R-CNN with a MobileNetV3-Large FPN backbone is about 5 times as fast as with ResNet-50; DeepLabV3 with it about 8.5 times as "
        "fast as FCN ResNet-50; LR-ASPP beats the FCN on all metrics; 320 px instead of 520 px takes about 60 % off the CPU time.",
        ("roofline compare torchvision:fasterrcnn_resnet50_fpn torchvision:fasterrcnn_mobilenet_v3_large_fpn -d i9-10940x",
         "roofline analyze torchvision:lraspp_mobilenet_v3_large --resolution 320 -d i9-10940x"),
        "i9-10940X, eager: Faster R-CNN {rcnn} times as fast for {rcnn_macs} times fewer MACs; DeepLabV3 {deep} times as fast as the FCN for "
        "{deep_macs} times fewer MACs, LR-ASPP {lraspp} times as fast as that DeepLabV3; 320 px takes {less} off LR-ASPP's time and "
        "{less_macs} off its MACs.",
        "torchvision's own announcement of these models (pytorch.org, 2021; its figures from memory): 4.25 and 0.84 s, 5.1 times; 5.01 and "
        "0.59 s, 8.5 times. Its FCN there has a MobileNetV3 backbone too, which LR-ASPP beats.",
        "the last holds, the factors hang on the CPU",
        "The MAC ratios are 6.8 and 15, and between them and one lies what a CPU gives: the more cores, the more the small net's dispatch and "
        "copies count, and the smaller are the factors. Accuracy is not ours to compute.",
        detectors,
    ),
    Claim(
        "A Ghost module (ratio 2, 3x3 cheap operation) about halves the cost of a convolution; GhostNet costs less than MobileNetV3 at equal "
        "accuracy.",
        ("roofline analyze models/ghostnet.py:ghost_module --input 1,256,56,56 -d i9-10940x", "roofline compare mobilenet_v3_large ghostnet -d i9-10940x --runtime compiled"),
        "One module has {macs} of the MACs of the convolution and {time} of its time. GhostNet: {net} MACs beside {three}, and {slower} times "
        "MobileNetV3-Large's time on an i9-10940X, compiled.",
        "timm: GhostNet 8.12 ms beside 5.66 ms on the i9-10940X, 72.2 beside 70.2 ms for 1024 images on the RTX 4090. The papers print 73.9 % "
        "and 75.2 % top-1.",
        "holds in multiply-adds, not in time",
        "Each cheap operation is a depthwise convolution, a norm and a concatenation more: more kernels and more bytes for half the "
        "arithmetic, and GhostNet is slower than the net that it undercuts.",
        ghosts,
    ),
    Claim(
        "A squeeze-and-excitation module in every layer adds about 10 % of compute.",
        ("roofline diff resnet50_v1 se_resnet50 -d i9-10940x", "roofline compare resnet50_v1 se_resnet50 -d rtx-4090 -b 256 --dtype amp"),
        "In ResNet-50: {macs} more MACs, {params} more parameters, {cpu} more time on an i9-10940X, {gpu} more on an RTX 4090 at batch 256.",
        "timm: SE-ResNet-50 18.5 ms beside 14.9 ms on the i9-10940X (24 % more), 275 beside 238 ms on the RTX 4090 (16 % more).",
        "does not hold",
        "It adds next to no arithmetic and much more time than a tenth: it pools, multiplies and so reads and writes every activation "
        "once more.",
        squeeze,
    ),
)  # fmt: skip


def page(quick: bool = False, old: str = "") -> str:
    """claims.md; `quick` takes the section about detectors from `old`."""
    lines = [head() + "\n".join(f"| {i} | [{short(c)}](#claim-{i}) | {c.verdict} |" for i, c in enumerate(CLAIMS, 1)), ""]
    for i, claim in enumerate(CLAIMS, 1):
        if quick and claim.numbers is detectors:
            lines.append(section_of(old, i))
            continue
        numbers = claim.numbers()
        commands = "; ".join(f"`{c}`" for c in claim.commands)
        lines += [
            f"## Claim {i}",
            "",
            f"- **Claimed**: {claim.claimed}",
            f"- **Computed**: {claim.computed.format(**numbers)} ({commands})",
            f"- **Measured**: {claim.measured.format(**numbers)}",
            f"- **Measured here**: {measured.told(session(), i)}",
            f"- **Verdict: {claim.verdict}.** {claim.reason}",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


@cache
def session() -> measured.Session:
    """What was measured where the page was made."""
    found = measured.kept()
    if found is None:
        raise SystemExit(f"{measured.KEPT.name} is not there: run python reports/measured.py --write")
    return found


def head() -> str:
    return HEAD.replace("{machine}", measured.where(session())).replace("{rounds}", str(session().rounds))


def section_of(text: str, number: int) -> str:
    """The section of a claim as it stands."""
    start = text.index(f"## Claim {number}\n")
    end = text.find("## Claim ", start + 1)
    return text[start : end if end > 0 else len(text)].rstrip() + "\n"


def short(claim: Claim) -> str:
    words = claim.claimed.split(";")[0].split(". ")[0].split(", so ")[0].rstrip(".")
    return words if len(words) < 96 else words[:95].rsplit(" ", 1)[0] + " …"
