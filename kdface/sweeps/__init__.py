"""Sweeps: the ledger of jobs, the loop that runs missing ones, and the backends.

`ledger` tracks the jobs of a sweep and their states; `engine` starts, watches and stops them through a backend
(`process`, `slurm`, `ray`); `space` and `search` choose jobs adaptively; `table` writes the results.
"""
