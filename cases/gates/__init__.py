"""Gates: a map scaled by numbers between zero and one that are computed from it."""
