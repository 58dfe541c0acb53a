"""The home folder, on a disk or in an object store: who drives it, and the folders of its runs."""
