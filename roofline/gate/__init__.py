"""Models held to their budgets: which they are, what they are held against, the verdicts; and the same for tables and tests."""
