"""A person's code in this process: whose a file is, what it leaves behind, what it asks for, how it fails."""
