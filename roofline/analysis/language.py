"""What a pass of a language model costs per token."""

from __future__ import annotations

from collections.abc import Sequence

from roofline.records import Kernel, LanguageInfo, Trace
from roofline.units import binary, si


def summary(trace: Trace, kernels: Sequence[Kernel], time_s: float, prefill: int | None, decode: int | None) -> LanguageInfo:
    """What the pass costs per token."""
    tokens = trace.batch * (prefill or 1)
    end = (prefill or 0) if decode is None else decode + 1
    held = sum(s.nbytes for s in trace.storages if s.kind == "cache")
    read = sum(o.bytes for k in kernels for o in k.operands if o.role == "cache" and not o.write)
    copied = [(op.outputs[0], trace.specs[op.spec]) for op in trace.ops if trace.specs[op.spec].name == "aten.copy_"]
    writes = [(trace.storages[i].nbytes, spec.out.nbytes) for i, spec in copied if trace.storages[i].kind == "cache"]
    written = sum(n for _, n in writes)
    # a recurrent layer's state is written over: it does not grow
    grown = written if decode is None else sum(n for whole, n in writes if n < whole)
    flops, macs = sum(k.flops for k in kernels), sum(k.macs for k in kernels)
    return LanguageInfo(
        mode="prefill" if decode is None else "decode",
        sequences=trace.batch,
        tokens=tokens,
        context=end,
        flops_per_token=flops // tokens,
        macs_per_token=macs // tokens,
        weight_bytes=sum(k.weight_bytes for k in kernels),
        cache_bytes=held,
        cache_read_bytes=read,
        cache_written_bytes=written,
        cache_bytes_per_token=grown // tokens,
        tokens_per_s=tokens / time_s if time_s else 0.0,
    )


def sentence(info: LanguageInfo) -> str:
    """The same for people."""
    start = (
        f"prefill of {info.context:,} tokens"
        if info.mode == "prefill"
        else f"decode of one token with {info.context - 1:,} in the KV cache"
    )
    many = f" ({info.sequences} sequences)" if info.sequences > 1 else ""
    return (
        f"{start}{many}: {si(info.flops_per_token, 'FLOP')} and {binary(info.cache_bytes_per_token)} of cache for each token; "
        f"{si(info.weight_bytes, 'B')} of weights and {si(info.cache_read_bytes, 'B')} of cache read; "
        f"{si(info.tokens_per_s)} tokens/s"
    )
