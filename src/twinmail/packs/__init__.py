"""Past days folded into packs: few large objects in the place of many small ones, with an index to each."""
