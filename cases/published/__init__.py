"""What papers and notes on them state about costs, held against what the pages count."""
