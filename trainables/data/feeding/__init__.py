"""From a prepared dataset to batches: splits, the order of images, batches read ahead."""
