"""The Hugging Face hub, to which a folder of transformers is uploaded."""

from collections.abc import Iterable
from pathlib import Path

from projects.reliable_runner.errors import InputError, first_line


def upload(folder: Path, files: Iterable[str], repo: str, private: bool = False) -> str:
    """Upload ``files`` of a folder to ``owner/name``, which is made if it is not there; return its address.

    The token is that of ``HF_TOKEN`` or of ``hf auth login``; ``HF_ENDPOINT`` names another hub. `InputError`
    if huggingface_hub is missing, or the upload failed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise InputError("--to-hub wants huggingface_hub: pip install huggingface_hub") from error
    hub = HfApi()
    try:
        address = hub.create_repo(repo, private=private or None, exist_ok=True)
        hub.upload_folder(
            folder_path=folder, repo_id=repo, allow_patterns=list(files), commit_message="Publish a detector"
        )
    except Exception as error:  # each version has another HTTP client, with errors of its own
        status = getattr(getattr(error, "response", None), "status_code", None)
        remedy = "check the network, and HF_ENDPOINT if it is set"
        if status in (401, 403, 404):
            remedy = f"run `hf auth login`, or set HF_TOKEN, with a token that may write to {repo}"
        elif status or isinstance(error, ValueError):
            remedy = "the hub does not take it"
        raise InputError(
            f"{repo}: the upload to {hub.endpoint} failed ({first_line(error)}); {remedy}. {folder} is "
            "complete"
        ) from error
    return str(address)
