"""Filters: Pigeonhole decides what a user's script does with a message; our delivery does it.

Two servers must do the same with a message, under the same name, so LMTP cannot deliver it. It is asked
instead: it delivers into an empty shadow folder, and what is in there afterwards is the decision.
"""
