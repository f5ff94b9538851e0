"""The regression gate: the two sides on disk, what is planted into them, the command and what it writes."""
