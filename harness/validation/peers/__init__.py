"""Other measuring tools, held against the same callables as sameop's own clock."""
