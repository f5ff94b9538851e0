"""Attention over maps: all of it, in windows, and in sliding windows."""
