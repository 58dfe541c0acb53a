"""Datasets of your own: a class list, images and masks paired by name, masks however they are coded.

`describe` looks at the files and returns the `description` that a home folder keeps; from it, the
dataset is read like any other. What a mask means is decided in `telling`, on the values that occur in
all of them together, and refused where they can be read in two ways.
"""
