"""A GPU or CPU: the record, its file, the library of them, what is implausible in one, and what this machine is."""
