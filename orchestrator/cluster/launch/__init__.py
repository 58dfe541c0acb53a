"""Clusters of a cluster file: started, given sweeps, looked at and stopped from the machine one sits at."""
