"""Datasets as they are released: their folders and archives, and how the official code reads their images."""
