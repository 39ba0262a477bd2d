"""Compares what was stored, processed, logged and indexed, and mends what differs."""
