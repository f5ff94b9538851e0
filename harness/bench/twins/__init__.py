"""Twins: two versions of a project side by side in processes that differ in nothing else.

A trunk (:mod:`~harness.bench.twins.trunk`) is a clean interpreter that has imported torch and run no
operator. It forks a branch for each side (:mod:`~harness.bench.twins.side`), which puts the folders of its
own version on ``sys.path`` and imports its pages; a branch forks one process per case. A pair
(:mod:`~harness.bench.twins.pair`) lets two such processes take turns in lock-step and yields one number.
"""
