"""The machines: what they have, Ray on them, and the clusters of a cluster file."""
