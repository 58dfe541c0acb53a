"""What MLflow says no to, and how that is told: its errors come in several wrappings, from a database and a server.

Imports nothing of MLflow's, so that it costs no time; its errors are known by their `error_code`.
"""

from orchestrator.errors import HdsweepError, chain

GONE = "RESOURCE_DOES_NOT_EXIST"
OF_CONTENT = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")
"""Refusals of what was to be written, or of where; all others are of the store itself."""
LONGEST = 300  # Characters of a reason that are told.


class RefusedError(HdsweepError):
    """MLflow refused something that a sweep cannot do without."""


def code_of(error: BaseException) -> str | None:
    """Return MLflow's code of an error, whatever it is wrapped in; None if it is not MLflow's."""
    for inner in chain(error):
        code = getattr(inner, "error_code", None)
        if isinstance(code, str):
            return code
    return None


def reason_of(error: BaseException) -> str:
    """Return the first line of what MLflow said."""
    said = next(
        (e for e in chain(error) if isinstance(getattr(e, "error_code", None), str)), error
    )
    lines = str(said).strip().splitlines() or [type(said).__name__]
    return lines[0][:LONGEST]


def refused(error: BaseException) -> RefusedError:
    """Return what to tell of a refusal that ends a sweep."""
    return RefusedError(
        f"MLflow refused what it was to store: {reason_of(error)}",
        hint="nothing that is finished is lost; the same command goes on where it stopped",
    )
