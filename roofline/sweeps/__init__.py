"""Many models in many settings on many devices: each traced once, priced everywhere, and kept as rows."""
