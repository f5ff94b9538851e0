"""Involution."""
