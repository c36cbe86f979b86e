"""Running things on this machine: samples, operators one by one, the machine itself, a model."""
