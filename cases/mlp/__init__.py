"""Fully connected layers: over the whole map, over its channels, over its positions, and over both."""
