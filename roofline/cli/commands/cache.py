"""`roofline cache`: traces and analyses kept on disk."""

from __future__ import annotations

from roofline.cli.options import Debug
from roofline.cli.terminal import out

SHORT = "Traces and analyses kept on disk: info, clear."
ORDER = 12


def info(debug: Debug = False) -> None:
    """Where the cache is and what it holds. $ROOFLINE_CACHE_DIR names another place."""
    from roofline.cache.store import Cache
    from roofline.views import listing

    out(listing.cache(Cache().info()))


def clear(debug: Debug = False) -> None:
    """Remove every entry."""
    from roofline.cache.store import Cache
    from roofline.units import binary
    from roofline.views.listing import entries

    cache = Cache()
    files, nbytes = cache.clear()
    out(f"removed {entries(files)} ({binary(nbytes)}) from {cache.root}\n")


UNDER = {"info": info, "clear": clear}
