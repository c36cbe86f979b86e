"""Models held to their budgets: which they are, what they are held against, the verdicts; and the same for tables and tests."""

import re


def mark(named: str = "") -> str:
    """The hidden first line of a comment, by which it is found again; one for each file or folder that is checked by name."""
    said = re.sub(r"[^\w./ -]|--", "_", named)
    return f"<!-- roofline check{f' of {said}' if said else ''} -->"


MARKED = re.compile(r"<!-- roofline check( of [^\n>]*)? -->")
