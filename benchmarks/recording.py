"""What benchmarks do alike: what they are asked with, and what they write down of date and hardware."""

import argparse
import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def asked(documentation: str) -> argparse.ArgumentParser:
    """Return a parser with the first line of a benchmark's documentation, and `--dry-run`."""
    parser = argparse.ArgumentParser(description=documentation.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="print, write no result")
    return parser


def keep(name: str, figures: Mapping[str, Any], *, dry_run: bool) -> None:
    """Print what was measured, and write it to `results/NAME.json` unless it is a dry run."""
    record = {"date": today(), "hardware": hardware(), "torch": version("torch"), **figures}
    text = json.dumps(record, indent=1)
    print(text)
    if not dry_run:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


def today() -> str:
    """Return the date in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def hardware() -> str:
    """Return what the figures depend on, without the name of the machine."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line for line in lines if line.startswith("model name")), "")
    return f"{model.partition(':')[2].strip() or platform.machine()}, {os.cpu_count()} cores"
