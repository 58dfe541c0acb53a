"""Stored sweeps: their files, labels and tables, and which one a plan belongs to."""
