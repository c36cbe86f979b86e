"""Results on disk, what each of them depends on, and whose a file is."""

from __future__ import annotations

from hashlib import sha256


def digest(*parts: str | bytes) -> str:
    """SHA-256 in hex of the parts; each is preceded by its length, so ("ab", "c") and ("a", "bc") differ."""
    h = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(b"%d:" % len(data))
        h.update(data)
    return h.hexdigest()
