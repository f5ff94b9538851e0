"""What operators are the same, and under which conditions."""
