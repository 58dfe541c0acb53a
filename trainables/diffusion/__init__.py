"""The noise schedule and joint sampling of images and masks."""
