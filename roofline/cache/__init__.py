"""Results on disk, what each of them depends on, and whose a file is."""

from __future__ import annotations

from hashlib import sha256


def digest(*parts: str | bytes) -> str:
    """SHA-256 in hex of the parts; each is preceded by its length, so ("ab", "c") and ("a", "bc") differ."""
    return sha256(framed(*parts)).hexdigest()


def framed(*parts: str | bytes) -> bytes:
    """What their digest is made of: parts that many digests share are framed once."""
    each = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join([b"%d:%b" % (len(data), data) for data in each])
