"""Datasets: from a release, or from a program, to batches of tensors.

`datasets/` knows the releases; `prepare` turns one into an Arrow file (`store`) whose content hash
is its fingerprint; `splits` and `batches` are what training reads.
"""
