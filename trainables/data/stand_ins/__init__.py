"""Generated datasets that stand in for real ones where those cannot be had."""
