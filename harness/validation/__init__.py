"""Validation: the harness's own numbers held beside independent ones."""
