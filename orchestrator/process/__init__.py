"""This process among others on a machine: how it is called, spoken to, stopped, and what it leaves."""
