"""The tasks of ``./inv``: each parses its options, calls the domain and prints what came of it."""
