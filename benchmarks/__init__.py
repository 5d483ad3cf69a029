"""Benchmarks: what is compared runs interleaved in one process, and the median ratio is told."""
