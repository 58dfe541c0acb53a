"""Trains one thing; knows nothing of sweeps, of the store or of the command line."""
