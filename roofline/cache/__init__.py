"""Results on disk, what each of them depends on, and whose a file is."""
