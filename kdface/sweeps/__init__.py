"""Sweeps: the ledger of their jobs, the loop that runs what is missing, and where jobs can run.

`ledger` says which jobs belong to a sweep and how far each came; `engine` starts, watches and stops them through a
backend (`process`, `slurm`, `ray`); `space` and `search` choose jobs as they go; `table` writes what came out.
"""
