"""Models held to their budgets: which they are, what they are held against, the verdicts; and the same for tables and tests."""

# What the hidden first line of a comment is, by which it is found again.
MARK = "<!-- roofline check -->"
