"""The work of each verb of `hdsweep`, one file per verb; what is parsed and printed is in `commands`."""
