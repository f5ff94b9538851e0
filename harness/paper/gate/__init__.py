"""The gate's decisions: policy, rule, verdicts. Needs no torch."""
