"""The verbs of `hdsweep`, one file per subject: parse, call, print.

A file defines plain functions, or a `typer.Typer` for a group of verbs; `orchestrator.cli` lists
them. Nothing heavy is imported before it is needed: `--help` and `plan` know no torch, Ray or
MLflow.
"""
