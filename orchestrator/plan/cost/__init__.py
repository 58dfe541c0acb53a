"""What a plan will take: arithmetic of networks, seconds and GPU memory of runs, a sweep on a virtual clock."""
