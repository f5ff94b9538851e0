"""Records to pages and tables; never imports torch."""
