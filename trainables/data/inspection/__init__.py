"""Looking at prepared data: what is checked, what looks alike, sheets of samples."""
