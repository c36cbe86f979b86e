"""A Trace -> the kernels that a runtime makes of it: eager, ideal, compiled."""
