"""The commands: each file of this folder is one, found by its name.

A command file has `run`, whose parameters are its options (see `options`) and whose docstring is its help; `SHORT`, the line
that `roofline --help` shows; and `ORDER`, its place there (a plain string and a number, which are read from the text: the
help of the program imports no command). One with commands under it has `UNDER`, their names and functions,
instead of `run`.
"""
