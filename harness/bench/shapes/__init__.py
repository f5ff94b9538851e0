"""Adversarial shapes: drawn from what a page says of itself, and what has to hold at each of them."""
