"""Turn what huggingface_hub raises into one line: what is wrong, and what would be right."""

from typing import Any

from tasklens.core.errors import InputError, first_line
from tasklens.core.extras import import_extra

#: What to do for each answer of the hub that is an error, by its number.
_BY_STATUS = {
    401: "is refused: the hub does not accept the token; set HF_TOKEN to a valid one, or unset it",
    403: "is refused: the token in HF_TOKEN has no access to it",
    429: "is refused: there were too many requests; wait some minutes, or set HF_TOKEN, which "
    "allows more",
}


class HubError(InputError):
    """The hub does not answer, or refuses; what it does not have is a plain InputError."""


def hub_reason(error: BaseException) -> str:
    """Return why the hub did not give something, after its name in a message."""
    errors: Any = import_extra("huggingface_hub.errors")
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return f"is not in the cache, and {hub_reason(error.__cause__)}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "cannot be asked for: HF_HUB_OFFLINE is set; unset it to ask the hub"
    if isinstance(error, errors.GatedRepoError):
        return "is gated: accept its terms on its page, and set HF_TOKEN to a token of yours"
    if isinstance(error, errors.RevisionNotFoundError):
        return "has no such revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "is not on the hub, or is private: check the name, or set HF_TOKEN"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    kind, endpoint = (
        type(error).__name__.lower(),
        import_extra("huggingface_hub.constants").ENDPOINT,
    )
    if status is not None:
        reason = f"it answers with the error {status}; try again later"
    elif "timeout" in kind:
        reason = f"{endpoint} does not answer in time; try again later"
    elif "connect" in kind:
        reason = f"{endpoint} cannot be reached ({first_line(error)})"
    else:
        reason = first_line(error)
    return f"cannot be fetched from the hub: {reason}"
