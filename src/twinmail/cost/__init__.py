"""What a month costs: quantities, a dated list of prices, and the bill that they make."""
