"""A sweep as people see it while it runs: how far it is, on a terminal, in lines, told outside."""
