"""Modules of one model are not those of another.

Two models may each bring a `layers.py` or a package `models`. While one is loaded, traced and counted, its own folder comes
first, and modules that are a person's own (neither Python's nor installed) are its alone: they are gone from `sys.modules`
afterwards, and what stood there before is back. They are compiled from their source wherever their bytecode could be older: a
file restored by tar or rsync may have the size and time of the one before.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from roofline.cache.places import beside, kind_of, origin, where
from roofline.errors import BuildError
from roofline.isolation.failures import text
from roofline.isolation.ground import Ground, blamed, noted
from roofline.isolation.leftovers import State

# Packages that stay in place wherever they were imported from: they register themselves in C++, once in a process.
_LIBRARIES = frozenset({
    "torch", "torchvision", "torchaudio", "torchgen", "functorch", "triton", "numpy", "timm", "transformers", "onnx",
    "roofline", "__main__",
})  # fmt: skip
# Bytecode written this long after its source was last changed is of that source.
_RACY_S = 2.0
_REGISTERED = ("regist", "already", "torch_library", "duplicate")


class Loaded:
    """The modules of one model while it is looked at: what was imported, and what was asked for and not found."""

    def __init__(self, places: Sequence[str], ours: bool = False) -> None:
        self.places, self.ours = list(places), ours
        # module -> file, of the person's own as they were compiled: hash of their text
        self.hashes: dict[str, str] = {}
        # names that were looked for -> where found, None: nowhere
        self.names: dict[str, str | None] = {}

    def again(self) -> Callable[[], None]:
        """What notes in the `Loaded` of another time all that this one has noted until now."""
        hashes, names = dict(self.hashes), dict(self.names)

        def note() -> None:
            if _current:
                _current[-1].hashes.update(hashes)
                _current[-1].names = names | _current[-1].names

        return note


def asked() -> Loaded | None:
    """The modules of the model that is looked at now."""
    return _current[-1] if _current else None


def own(module: ModuleType) -> bool:
    """Whether a module is a person's own, and so a model's alone."""
    if module.__name__.partition(".")[0] in _LIBRARIES if isinstance(getattr(module, "__name__", None), str) else True:
        return False
    return bool(file := origin(module)) and kind_of(file) == "own"


# Modules with a file that were found to be nobody's own, by name: they need not be looked at for every model.
_foreign: dict[str, ModuleType] = {}


def _owned(modules: dict[str, ModuleType]) -> dict[str, ModuleType]:
    """Those of a person's own among the modules of the process."""
    found = {}
    for name, module in modules.items():
        if _foreign.get(name) is module or not isinstance(module, ModuleType):
            continue
        if own(module):
            found[name] = module
        elif "__file__" in module.__dict__:
            _foreign[name] = module
    return found


class _Fresh(SourceFileLoader):
    """Takes bytecode only where it was surely written after the source got its present content."""

    loaded: Loaded

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        found = self.loaded.hashes[os.path.abspath(path)] = sha256(source).hexdigest()
        if (path, found) not in _codes:
            # of a model of this project bytecode is written as of any of its files
            first = self.loaded.ours and not os.path.exists(cache_from_source(path))
            known = first or _bytecode_is_later(path)
            _codes[path, found] = super().get_code(fullname) if known else self.source_to_code(source, path)
        return _codes[path, found]


# (file, hash of its text) -> its code, as long as the process lives
_codes: dict[tuple[str, str], Any] = {}


def _bytecode_is_later(path: str) -> bool:
    try:
        # elsewhere than on POSIX, ctime is not the time of the last change
        return os.name == "posix" and os.stat(cache_from_source(path)).st_mtime - os.stat(path).st_ctime > _RACY_S
    except (OSError, NotImplementedError):
        return False


class _Ours(SourceFileLoader):
    """A module of this package that a model is the first to want: it is to stay as its own code makes it."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        noted(module)


class _Finder:
    """Python's own search of sys.path, with a note of what was looked for."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if path is None:
            spec = beside(name, spec, self.loaded.places)
        if path is None or spec is None:
            self.loaded.names.setdefault(name, where(spec))
        if spec is not None and type(spec.loader) is SourceFileLoader and kind_of(spec.origin or "") == "own":
            loader = _Fresh(name, spec.loader.path)
            loader.loaded = self.loaded
            spec.loader = loader
        elif spec is not None and spec.origin and spec.origin.endswith((".so", ".pyd")) and kind_of(spec.origin) == "own":
            self.loaded.hashes[os.path.abspath(spec.origin)] = sha256(_read(spec.origin)).hexdigest()
        elif spec is not None and name.startswith("roofline.") and type(spec.loader) is SourceFileLoader:
            spec.loader = _Ours(name, spec.loader.path)
        return spec


_current: list[Loaded] = []
# how a model's file is called as a module
_MODEL = "roofline_model_"


@contextmanager
def inside(places: Sequence[str]) -> Iterator[Loaded]:
    """The modules of the model that is looked at now; where nobody has set it apart, for as long as it is loaded."""
    if _current:
        yield _current[-1]
    else:
        with isolated(places) as loaded:
            yield loaded


def name_of(path: Path) -> str:
    """The name in sys.modules of a file that is run by itself."""
    return f"{_MODEL}{path.stem}"


def run_file(path: Path) -> ModuleType:
    """A Python file as a module by itself."""
    name = name_of(path)
    loader = _Fresh(name, str(path))
    loader.loaded = _current[-1]
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


@contextmanager
def ours(places: Sequence[str]) -> Iterator[Loaded]:
    """Run a model of this project: it is one file that imports torch alone, so nothing has to be kept apart from it."""
    loaded, before = Loaded(places, ours=True), sys.modules.keys() - ()
    _current.append(loaded)
    try:
        yield loaded
    finally:
        _current.pop()
        for name in [n for n in sys.modules if n.startswith(_MODEL) and n not in before]:
            del sys.modules[name]


@contextmanager
def isolated(places: Sequence[str]) -> Iterator[Loaded]:
    """Run a model's code among modules of its own, `places` first on sys.path."""
    loaded = Loaded(places)
    before = dict(sys.modules)
    hidden = _owned(before)
    clashes = _clashes(places, before, hidden)
    for name in hidden:
        del sys.modules[name]
    path, finders = list(sys.path), list(sys.meta_path)
    at = next((i for i, f in enumerate(sys.meta_path) if f is PathFinder), len(sys.meta_path))
    sys.meta_path.insert(at, _Finder(loaded))
    sys.path[:0] = [place for place in places if place not in sys.path[:1]]
    importlib.invalidate_caches()
    real = builtins.__import__
    if clashes:
        builtins.__import__ = _local_first(real, clashes, loaded)
    _current.append(loaded)
    try:
        yield loaded
    finally:
        _current.pop()
        if clashes:
            builtins.__import__ = real
        for name, module in list(sys.modules.items()):
            if before.get(name) is not module and isinstance(module, ModuleType) and own(module):
                del sys.modules[name]
        sys.modules.update(hidden)
        sys.path[:], sys.meta_path[:] = path, finders


# ------------------------------------------------------------------------------------------------ names that two share


def _clashes(places: Sequence[str], before: dict[str, ModuleType], hidden: dict[str, ModuleType]) -> dict[str, str]:
    """Names of modules beside the model that somebody else's module has taken: name -> folder."""
    found: dict[str, str] = {}
    for place in places:
        try:
            entries = os.listdir(place)
        except OSError:
            continue
        for entry in entries:
            stem, suffix = os.path.splitext(entry)
            inside = suffix == ".py" or (not suffix and os.path.isfile(os.path.join(place, entry, "__init__.py")))
            taken = stem in before and stem not in hidden and stem not in _LIBRARIES
            if inside and (taken or stem in sys.stdlib_module_names) and stem not in sys.builtin_module_names:
                found.setdefault(stem, place)
    return found


def _local_first(real: Callable[..., Any], clashes: dict[str, str], loaded: Loaded) -> Callable[..., Any]:
    """An import statement in the model's own files finds what lies beside them; everybody else's finds what it always has."""
    local: dict[str, ModuleType] = {}

    def load(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top = name.partition(".")[0]
        file = (globals or {}).get("__file__")
        if level or top not in clashes or not isinstance(file, str) or kind_of(file) != "own":
            return real(name, globals, locals, fromlist, level)
        mine = [top] + [m for m in list(sys.modules) if m.startswith(top + ".")]
        others = {m: sys.modules.pop(m) for m in mine if m in sys.modules}
        sys.modules.update(local)
        path = list(sys.path)
        sys.path.insert(0, clashes[top])
        found = None
        try:
            found = real(name, globals, locals, fromlist, level)
            module = sys.modules.get(name)
            if all(n == "*" or hasattr(module, n) for n in fromlist or ()):
                return found
            found = None  # it is not the one that is meant: `from types import FunctionType` beside a types.py
        except ImportError:
            if not others and top not in sys.stdlib_module_names:
                raise
        finally:
            now = {m: sys.modules.pop(m) for m in list(sys.modules) if m == top or m.startswith(top + ".")}
            if found is not None:
                local.update(now)
            sys.modules.update(others)
            sys.path[:] = path
        return real(name, globals, locals, fromlist, level)

    return load


# ------------------------------------------------------------------------------------------------ loading twice


class _World:
    """A model's modules as they were once loaded, and what its file changed in this process."""

    def __init__(self, main: ModuleType, modules: dict[str, ModuleType], hashes: dict[str, str], before: State) -> None:
        self.main, self.modules, self.hashes = main, modules, hashes
        self.change_again = State().since(before)

    def unchanged(self) -> bool:
        try:
            return all(sha256(_read(path)).hexdigest() == known for path, known in self.hashes.items())
        except OSError:
            return False


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


_worlds: dict[tuple[str, ...], _World] = {}


def once(loaded: Loaded, key: str, run: Callable[[], ModuleType]) -> ModuleType:
    """Run a model's file. What can run only once in a process (operators that it registers) is taken from the first time where
    nothing of it has changed, else forgotten and run again."""
    if loaded.ours:
        return run()
    name = (key, *loaded.places)
    kept = len(_kept_alive())
    before = State()
    try:
        main = _standing(run, key)
    except Exception as error:
        if not _worlds or not any(word in text(error).lower() for word in _REGISTERED):
            raise
        world = _worlds.get(name)
        if world is not None and world.unchanged():
            sys.modules.update(world.modules)
            world.change_again()
            loaded.hashes.update(world.hashes)
            return world.main
        _forget()
        main = _standing(run, key)
    else:
        _mark.setdefault("kept", kept)
    _worlds[name] = _World(main, _owned(dict(sys.modules)), dict(loaded.hashes), before)
    return main


def _standing(run: Callable[[], ModuleType], name: str) -> ModuleType:
    """What `run` gives. Raises BuildError where it took away what everything here stands on, which is back then."""
    found: list[str] = []
    ground = Ground()
    try:
        main = run()
    finally:
        found = ground.mend()
    if found:
        raise BuildError(f"the model failed: {name} could not be loaded: {blamed(found)}")
    return main


_mark: dict[str, int] = {}


def _forget() -> None:
    """Let go of everything that models have registered with torch, so that it can be registered again."""
    kept = _kept_alive()
    gone = kept[_mark.get("kept", len(kept)) :]
    del kept[_mark.get("kept", len(kept)) :]
    # what a library calls lives in C++ and holds on to the module that holds on to the library
    library: Any = getattr(sys.modules.get("torch.library"), "Library", ())
    gone += [
        v for world in _worlds.values() for m in world.modules.values() for v in vars(m).values() if isinstance(v, library)
    ]
    for each in gone:
        getattr(each, "_destroy", bool)()
    _worlds.clear()
    for name in [n for n, m in sys.modules.items() if isinstance(m, ModuleType) and own(m)]:
        del sys.modules[name]
    gc.collect()


def _kept_alive() -> list[Any]:
    """Where torch keeps libraries that nobody else holds; a torch without such a list lets go of them by itself."""
    found = getattr(sys.modules.get("torch.library"), "_keep_alive", None)
    return found if isinstance(found, list) else []
