"""Truths that owe nothing to roofline: loops that count one by one, equations, printed numbers, and torch itself asked.

A test imports them as `oracles`, and so does a benchmark. None of them imports roofline: a test holds them to it.
"""
