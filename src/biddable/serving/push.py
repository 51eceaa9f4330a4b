"""Put an exported folder on the hub, where somebody asked for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from biddable.errors import ExportError
from biddable.hub import hub_answers, hub_endpoint, why_no_answer

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def push_folder(folder: Path, repo: str) -> str:
    """Upload a folder as a model repository; one that is new is made private.

    Args:
        folder: as `export` left it.
        repo: ``owner/name``.

    Returns:
        The address of the commit.

    Raises:
        ExportError: the name is none, nobody is logged in, or the hub refuses.
    """
    require_repo(repo)
    api = _hub()
    try:
        api.create_repo(repo, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message="Upload what biddable exported"
        )
    except Exception as error:  # the client raises what it likes
        raise ExportError(
            f"--push {repo}: {_why(error)} The folder {folder} is whole; later: hf upload {repo}"
            f" {folder}"
        ) from error
    return str(commit.commit_url)


def require_access(repo: str) -> None:
    """Ask the hub who is logged in, before a model is loaded and written for it.

    Args:
        repo: ``owner/name``.

    Raises:
        ExportError: the name is none, nobody is logged in, or the hub cannot be reached.
    """
    require_repo(repo)
    from huggingface_hub import get_token

    if get_token() is None:
        raise ExportError(
            f"--push {repo}: nobody is logged in here: hf auth login, or set HF_TOKEN. Nothing was"
            " exported."
        )
    if not hub_answers():
        raise ExportError(f"--push {repo}: {_not_reached()} Nothing was exported.")
    try:
        _hub().whoami()
    except Exception as error:  # the client raises what it likes
        raise ExportError(f"--push {repo}: {_why(error)} Nothing was exported.") from error


def require_repo(repo: str) -> None:
    """Refuse what cannot be a repository's name, before anything is written.

    Raises:
        ExportError: it is not ``owner/name``.
    """
    owner, slash, name = repo.partition("/")
    if not (slash and owner and name) or "/" in name:
        raise ExportError(f'--push: found "{repo}"; expected owner/name of a repository.')


def _hub() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub_endpoint())


def _why(error: Exception) -> str:
    """Say whether the hub refused, whom, or was not reached: one sentence, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = str(error).strip().splitlines() or [type(error).__name__]
    reason = said[0].rstrip(".")
    if status == 401:
        return f"the hub does not know this login ({reason}): hf auth login."
    if status == 403:
        return f"the login here may not write there ({reason})."
    if status is not None:
        return f"the hub refuses it ({reason})."
    return _not_reached(f" ({reason})")


def _not_reached(reason: str = "") -> str:
    return f"{why_no_answer()}{reason}; check the connection, and HF_ENDPOINT."
