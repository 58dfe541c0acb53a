"""What `--json` prints: one document per call, with its schema and version; docs/json.md has every field.

A field may be added without another version; one that is renamed, removed or means something else makes one.
"""

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import HdsweepError

VERSION = 1


def document(schema: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of a verb."""
    return {"schema": f"hdsweep.{schema}", "version": VERSION, **value}


def error_document(error: HdsweepError) -> dict[str, Any]:
    """Return an error, as it is printed on standard error."""
    told = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    return document("error", told)
