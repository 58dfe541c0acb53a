"""Decides what runs, runs it and stores it; never touches a tensor."""
