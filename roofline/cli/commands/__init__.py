"""The commands: each file of this folder is one, found by its name.

A command file has `run`, whose parameters are its options (see `options`) and whose docstring is its help; `SHORT`, the line
that `roofline --help` shows; and `ORDER`, its place there. One with commands under it has `UNDER`, their names and functions,
instead of `run`.
"""
