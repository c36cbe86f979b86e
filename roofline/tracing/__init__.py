"""A module and its inputs -> a Trace, by running it on tensors without storage."""
