"""Bringing an older account in: from another server or from files, once, into the log."""
