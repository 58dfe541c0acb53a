"""Files of images and masks as they come, untrusted: opened, decoded, and read by several processes."""
