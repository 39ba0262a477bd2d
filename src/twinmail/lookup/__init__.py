"""Finding messages, and what became of one: for the person who is told "my mail did not arrive"."""
