"""Put an exported folder on the hub, where somebody asked for it."""

from __future__ import annotations

import os
from pathlib import Path

from biddable.errors import ExportError

_ENDPOINT = "https://huggingface.co"


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
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or _ENDPOINT)
    try:
        api.create_repo(repo, private=True, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message="Upload what biddable exported"
        )
    except Exception as error:  # the client raises what it likes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"--push {repo}: {reason} The folder {folder} is whole; log in (hf auth login) and"
            f" upload it: hf upload {repo} {folder}"
        ) from error
    return str(commit.commit_url)


def require_repo(repo: str) -> None:
    """Refuse what cannot be a repository's name, before anything is written.

    Raises:
        ExportError: it is not ``owner/name``.
    """
    owner, slash, name = repo.partition("/")
    if not (slash and owner and name) or "/" in name:
        raise ExportError(f'--push: found "{repo}"; expected owner/name of a repository.')
