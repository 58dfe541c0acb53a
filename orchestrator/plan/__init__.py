"""From a study to its runs: a DAG of run specs, which of them wait for which, and why each will run."""
