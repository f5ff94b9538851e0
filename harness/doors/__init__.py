"""The two doors: the pytest plugin and the command line."""
