"""Kernels x a device -> seconds, and what bounds each."""
