"""Runs a plan on Ray Tune: hands runs out, takes results in, and alone writes the store."""
