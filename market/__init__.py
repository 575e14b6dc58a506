"""The words that every room speaks, and the rules of an auction: no I/O beyond our own files."""
