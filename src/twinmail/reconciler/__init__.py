"""Finds messages that SES stored and nobody brought into the log, and brings them in."""
