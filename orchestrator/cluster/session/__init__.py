"""Ray for the length of one sweep: its processes, its token, whether it still lives."""
