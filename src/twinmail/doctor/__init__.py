"""Checks what an owner of the system gets wrong, and says what to do about it."""
