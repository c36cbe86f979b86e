"""The house of docs/design.md: packages are stages, imports go down, no circle, what starts without torch, and sizes."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
ROOT = REPO / "roofline"

# Top first. A module may import what stands in a row below its own, and what is in its own package; nothing sideways.
LAYERS = [
    ("__main__", "pytest_plugin"),
    ("cli",),
    ("roofline",),
    ("views",),
    ("validation", "bench", "advice", "sweeps", "gate"),
    ("pipeline",),
    ("sources", "analysis"),
    ("tracing", "kernels", "timemodel"),
    ("request", "fingerprints"),
    ("isolation",),
    ("cost", "devices"),
    ("cache",),
    ("records",),
    ("compat",),
    ("classes", "dtypes", "errors", "files", "paths", "shapes", "units", "version"),
]
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}

# (module, what it imports) that climb or go sideways all the same, each with the reason.
CLIMBS: dict[tuple[str, str], str] = {}

HEAVY = frozenset({"torch", "torchvision", "timm", "transformers", "fvcore", "numpy", "matplotlib", "rich", "jinja2"})
# What may be heavy as soon as it is imported, and why.
STARTS_HEAVY = {
    "tracing": "it runs models",
    "sources.build": "it makes modules",
    "sources.calls": "it makes tensors",
    "sources.exported": "it runs programs of torch.export",
    "sources.hf_calls": "it runs modules",
    "sources.loading": "it makes modules",
    "sources.unfilled": "it makes tensors",
    "sources.packed": "it puts weights in place of others",
    "sources.onnx.fold": "it works constants out with numpy",
    "sources.onnx.known": "it holds those constants",
    "sources.onnx.contrib": "it reads them",
    "sources.onnx.control": "it reads them",
    "sources.onnx.infer": "it reads them",
    "sources.onnx.trace": "it reads the folded graph",
    "bench.calibrate_gpu": "it runs on the GPU",
    "gate.counting": "it watches operators run",
    "bench.op_timer": "it runs operators",
    "sweeps.price": "all devices at once are numpy's",
    "sweeps.work": "it prices so",
    "timemodel.columns": "they are numpy's",
    "timemodel.many": "its columns are numpy's",
    "timemodel.fleet": "its columns are numpy's",
    "validation.arrays": "all kernels of a table at once are numpy's",
    "validation.fit": "it works on those arrays",
    "validation.leave_out": "it fits",
    "validation.known": "it solves for three numbers with numpy",
    "validation.known_times": "it hands its times to that",
    "validation.crosscheck": "it runs models under other counters",
    "validation.timm_benchmark": "it builds timm's models",
    "views.chart": "it draws",
    "views.front": "it draws",
    "views.ink": "it draws",
    "views.labels": "it draws",
    "views.side": "it draws",
    "views.alive": "it draws",
    "views.batches": "it draws",
    "views.plane": "it draws",
    "views.sheet": "it draws",
    "views.stack": "it draws",
    "views.page": "it fills a template",
    "views.table": "it writes to a terminal",
}

MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS, MOST_AT_TOP = 450, 60, 10, 16


@cache
def modules() -> dict[str, Path]:
    """Every module by its name within the package; "roofline" is the package itself."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "_share" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "roofline"] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def named(node: ast.stmt) -> set[str]:
    """Modules of ours that an import statement names, and the top names of those that are not."""
    if isinstance(node, ast.Import):
        asked = [(alias.name, "") for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "an import says where from"
        asked = [(node.module or "", alias.name) for alias in node.names]
    else:
        return set()
    out = set()
    for base, name in asked:
        if base.partition(".")[0] != "roofline":
            out.add(f"!{base.partition('.')[0]}")
            continue
        inside = base.removeprefix("roofline").removeprefix(".")
        deeper = f"{inside}.{name}".strip(".")
        out.add(deeper if deeper in modules() else inside or "roofline")
    return out


@cache
def imports(module: str) -> frozenset[str]:
    """What of ours a module imports anywhere: at once, later, or for its types alone."""
    found: set[str] = set().union(*(named(node) for node in ast.walk(tree(module)) if isinstance(node, ast.stmt)))
    return frozenset(name for name in found if not name.startswith("!"))


@cache
def at_once(module: str) -> frozenset[str]:
    """What is imported when a module is: not in a function, and not for its types alone. The packages around it count."""
    found: set[str] = set()
    todo: list[ast.AST] = [tree(module)]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.stmt):
            found |= named(node)
        todo += ast.iter_child_nodes(node)
    parts = module.split(".")
    return frozenset(found | {".".join(parts[:n]) for n in range(1, len(parts))} | {"roofline"})


def heavy(module: str) -> set[str]:
    """Heavy packages that come with a module."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        for name in at_once(todo.pop()) - seen:
            seen.add(name)
            if not name.startswith("!"):
                todo.append(name)
    return {name[1:] for name in seen if name[1:] in HEAVY}


def house(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_has_a_row() -> None:
    assert {house(module) for module in modules()} == set(ROW)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_down(module: str) -> None:
    wrong = [
        other
        for other in sorted(imports(module))
        if house(other) != house(module) and ROW[house(other)] <= ROW[house(module)] and (module, other) not in CLIMBS
    ]
    assert not wrong, f"{module} imports {wrong}, which is no lower"


def test_exceptions_are_still_needed() -> None:
    assert all(other in imports(module) and reason for (module, other), reason in CLIMBS.items())


def test_no_circle() -> None:
    TopologicalSorter({module: imports(module) - {module} for module in modules()}).prepare()


@pytest.mark.parametrize("module", sorted(modules()))
def test_what_starts_without_torch(module: str) -> None:
    excused = any(module == name or module.startswith(f"{name}.") for name in STARTS_HEAVY)
    assert excused or not heavy(module)


@pytest.mark.parametrize("name", STARTS_HEAVY)
def test_what_is_excused_is_heavy(name: str) -> None:
    assert any(heavy(module) for module in modules() if module == name or module.startswith(f"{name}."))


def test_few_files_at_the_top() -> None:
    assert len(list(ROOT.glob("*.py"))) <= MOST_AT_TOP


@pytest.mark.parametrize("module", sorted(modules()))
def test_sizes(module: str) -> None:
    """A longer function, or one with more parameters, says why in its signature: `# long: ...`."""
    lines = modules()[module].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES
    for node in ast.walk(tree(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            a = node.args
            own = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs) if p.arg not in ("self", "cls")]
            count = len(own) + (a.vararg is not None) + (a.kwarg is not None)
            length = (node.end_lineno or 0) - node.lineno + 1
            signature = "\n".join(lines[node.lineno - 1 : node.body[0].lineno])
            fine = length <= MOST_FUNCTION_LINES and count <= MOST_PARAMETERS
            assert fine or re.search(r"# long: \w+", signature), f"{node.name}: {length} lines, {count} parameters"


@cache
def document() -> str:
    return (REPO / "docs/design.md").read_text(encoding="utf-8")


def test_the_picture_is_in_the_documents() -> None:
    text = document()
    _, picture, _ = text[text.index("## The house") :].split("```", 2)
    drawn = [set(line.split("  ")[0].split(" | ")) for line in picture.strip().splitlines()]
    assert drawn == [set(row) for row in LAYERS]


def test_every_module_is_in_the_map() -> None:
    """The table of docs/design.md names each beside its package; of `cost` it says that each family of operators is one."""
    named: dict[str, set[str]] = {}
    package = ""
    table = document().split("## The house")[1].split("| --- | --- | --- |", 1)[1].split("\n\n", 1)[0]
    for line in table.strip().splitlines():
        where, _, rest = line.strip("|").partition("|")
        package = where.strip(" `/") or package
        names = re.findall(r"`([\w./]+)`", rest)
        named.setdefault(package, set()).update(name.removesuffix(".py").strip("/") for name in names)
    everywhere = set().union(*named.values(), named)
    lost = [
        module
        for module in modules()
        if module not in ("roofline", "__main__")
        and house(module) != "cost"
        and not (set(module.split(".")[1:]) & named.get(house(module), set()) or module in everywhere)
    ]
    assert not lost


@pytest.mark.parametrize("name", ["pipeline.run", "Cache.load", "roofline.analyze"])
def test_a_name_that_is_there_is_found(name: str) -> None:
    assert there(name)
    assert not there(f"{name}d")


def test_the_way_of_a_string_names_functions_that_are_there() -> None:
    section = document().split("## How a string becomes an Analysis")[1].split("\n## ")[0]
    names = re.findall(r"`(\w+(?:\.\w+)+)`", section)
    assert len(names) > 30
    assert [name for name in names if not there(name)] == []


def there(name: str) -> bool:
    """Whether some module, as far as the name says which, defines that."""
    parts = name.split(".")
    return (
        name in modules()
        or any(
            module.split(".")[-n:] == parts[:n] and defines(tree(module).body, parts[n:])
            for module in modules()
            for n in range(1, len(parts))
        )
        or any(defines(tree(module).body, parts) for module in modules())
    )


def defines(body: list[ast.stmt], parts: list[str]) -> bool:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == parts[0]:
            return len(parts) == 1 or (isinstance(node, ast.ClassDef) and defines(node.body, parts[1:]))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == parts[0]:
            return len(parts) == 1
    return False


def test_an_ignored_type_says_why() -> None:
    """`# type: ignore[code]  # reason`, in the package, the benchmarks and the tests."""
    files = [path for folder in ("roofline", "benchmarks", "tests") for path in (REPO / folder).rglob("*.py")]
    lines = [(path.name, i, line) for path in files for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)]
    silent = [f"{name}:{i}" for name, i, line in lines if re.search(r"# type[:] ignore(?!\[[a-z, -]+\]  # \w)", line)]
    assert not silent


@pytest.mark.parametrize("folder", ["roofline", "tests", "benchmarks", "models"])
def test_the_formatter_is_kept_from_tables_alone(folder: str) -> None:
    """A marked statement ends with a list, set or dict: a call or a signature looks as the formatter has it."""
    mark = "# fmt" + ": skip"
    for path in sorted((REPO / folder).rglob("*.py")):
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if mark in line:
                assert line.strip()[0] in "]}", f"{path}:{n}: {line.strip()}"
