"""What can be read, compared and decided without torch: records, runs, statistics and verdicts."""
