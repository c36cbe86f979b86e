"""Step 2: kernels that share buffers become one (torch/_inductor/scheduler.py, codegen/cpp.py)."""

from __future__ import annotations

from math import prod

from roofline.kernels.inductor.parts import Access, Buffer, Node, root

# Kernels that lie further apart than this are not fused (scheduler.py, are_long_distant_nodes).
_DISTANT = 64
# most buffers made in one kernel (max_fusion_size)
_MAX_FUSED = 64

# Two kernels as they were when they were looked at: a kernel is another one once it has taken in more parts.
_Pair = tuple[int, int, int, int]


def fuse(nodes: list[Node], kind: str) -> None:
    """Merge kernels that share buffers, those that share most first, until nothing more fits (scheduler.py, fuse_nodes)."""
    shared: dict[_Pair, int] = {}
    refused: set[_Pair] = set()
    while True:
        merged = False
        for *_, i, j in _candidates(nodes, kind, shared):
            a, b = root(nodes[i]), root(nodes[j])
            if a is b:
                continue
            if b.number < a.number:
                a, b = b, a
            pair = (a.number, a.parts, b.number, b.parts)
            if pair in refused:
                continue
            if not _fits(a, b, kind):
                refused.add(pair)
            elif not _cycle([a, b]):
                _merge(a, b)
                merged = True
        if not merged:
            return


def _candidates(nodes: list[Node], kind: str, known: dict[_Pair, int]) -> list[tuple[int, int, int, int]]:
    """Pairs that share bytes, in the order in which they are tried, by their numbers (the last two)."""
    users: dict[Buffer, list[Node]] = {}
    alive = [node for node in nodes if node.fusable and node.into is None]
    for node in alive:
        for buffer in node.touched():
            users.setdefault(buffer, []).append(node)
    found: list[tuple[int, int, int, int]] = []
    met = dict.fromkeys(users, 0)
    for a in alive:
        later: set[Node] = set()
        for buffer in a.touched():
            met[buffer] += 1
            sharers = users[buffer]
            if met[buffer] < len(sharers) <= _MAX_FUSED:
                later.update(sharers[met[buffer] :])
        for b in later:
            pair = (a.number, a.parts, b.number, b.parts)
            shared = known.get(pair)
            if shared is None:
                shared = known[pair] = _shared(a, b)
            if shared:
                far = int(kind == "cpu" and bool(a.reduced) and not b.reduced)
                found.append((far, -shared, a.number, b.number))
    found.sort()
    return found


def _shared(a: Node, b: Node) -> int:
    """Bytes that one kernel would move once less: what `b` reads of `a` at the same places, and what both read."""
    found = 0
    if not a.writes.keys().isdisjoint(b.sources):
        for (buffer, _), access in b.reads.items():
            if buffer in a.writes:
                # one read at another place, of a window beside the element itself, is enough (can_fuse_vertical)
                if not access.dense or access.elsewhere:
                    return 0
                found += access.nbytes
    for key in a.reads.keys() & b.reads.keys():
        buffer, part = key
        if part < 0 and buffer not in a.writes:
            access, other = b.reads[key], a.reads[key]
            if (access.dense and other.dense) or access.walks & other.walks:
                found += access.nbytes
    return found


def _fits(a: Node, b: Node, kind: str) -> bool:
    if a.parts + b.parts > _MAX_FUSED:
        return False
    if max(abs(a.order[0] - b.order[1]), abs(b.order[0] - a.order[1])) > _DISTANT:
        return False
    return (_sizes_agree(a, b) if kind == "gpu" else _loops_agree(a, b)) and _shared(a, b) > 0


def _loops_agree(a: Node, b: Node) -> bool:
    """Whether a C++ kernel can run both in the same loops."""
    uses = not a.writes.keys().isdisjoint(b.sources)
    if uses and a.reduced:
        # what follows a reduction joins it in the loops that both have outside (codegen/cpp.py, can_fuse_vertical_outer_loop)
        depth = min(len(a.vars), len(b.vars))
        return depth > 0 and a.vars[:depth] == b.vars[:depth]
    if a.vars == b.vars and a.reduced == b.reduced:
        return True
    if not a.reduced and b.reduced:
        return a.vars == b.vars + b.reduced
    if not b.reduced and a.reduced:
        return not uses and b.vars == a.vars + a.reduced
    # a single loop over everything takes the loops of the other (codegen/cpp.py, _can_fuse_nodes_with_compatible_ranges)
    flat = a if len(a.vars) < len(b.vars) else b
    if not a.reduced and prod(a.vars) == prod(b.vars) and len(flat.vars) == 1:
        return flat.parts == 1 and a.shape == b.shape
    return False


def _sizes_agree(a: Node, b: Node) -> bool:
    """Whether they run over the same elements, with at most one kind of reduction."""
    loops = {p.loops for p in (a, b) if p.loops is not None}
    if len(loops) > 1:
        return False
    if not loops:
        return a.total == b.total
    loop = next(iter(loops))
    return {a.total, b.total} <= {loop.outer * loop.reduced, loop.outer}


def _merge(a: Node, b: Node) -> None:
    b.into = a
    a.members += b.members
    a.needs |= b.needs
    a.parts += b.parts
    a.last = max(a.last, b.last)
    a.order = (min(a.order[0], b.order[0]), max(a.order[1], b.order[1]))
    for key, access in b.reads.items():
        a.reads[key] = a.reads.get(key, Access()) | access
    a.sources |= b.sources
    a.writes |= b.writes
    a.shape = a.shape if a.shape == b.shape else None
    if (b.reduced and not a.reduced) or (not a.reduced and len(b.vars) > len(a.vars)):
        a.vars, a.reduced = b.vars, b.reduced
    a.loops = a.loops or b.loops
    a.total = max(a.total, b.total)


def _cycle(parts: list[Node]) -> bool:
    """Whether a kernel outside would have to run both after and before the merged one."""
    inside = set(parts)
    oldest = min(p.number for p in parts)
    stack = [n for p in parts for need in p.needs if (n := root(need)) not in inside]
    seen = set(stack)
    while stack:
        n = stack.pop()
        if n.last < oldest:
            continue
        for before in map(root, n.needs):
            if before in inside:
                return True
            if before not in seen:
                seen.add(before)
                stack.append(before)
    return False
