"""Answers that take more than one analysis: why, what would help, which one."""
