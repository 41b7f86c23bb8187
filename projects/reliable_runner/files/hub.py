"""Checkpoints of the Hugging Face hub: ``hf://owner/name``, or ``hf://owner/name@revision``."""

from pathlib import Path

from ..errors import InputError, first_line

# In order of preference; a pickle is read safely too.
_FILES = ("model.safetensors", "pytorch_model.bin")


def fetch_from_hub(address: str) -> Path:
    """Fetch the weights of a repository into the hub's own cache, unless they are there.

    huggingface_hub does it: ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` count.

    Args:
        address: ``hf://owner/name``, with ``@`` and a branch, tag or commit behind it if wanted.

    Raises:
        InputError: huggingface_hub is not installed; there is no connection and nothing in the cache; the
            repository is private or missing, has no such revision, or no weights.
    """
    try:
        from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache
    except ImportError as error:
        raise InputError(f"{address}: to read it, pip install huggingface_hub") from error
    repository, _, revision = address.removeprefix("hf://").partition("@")
    for name in _FILES:
        try:
            return Path(hf_hub_download(repository, name, revision=revision or None))
        except errors.LocalEntryNotFoundError as error:
            for other in _FILES:  # the repository may have this one alone
                cached = try_to_load_from_cache(repository, other, revision=revision or None)
                if isinstance(cached, str):
                    return Path(cached)
            command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
            raise InputError(
                f"{address}: no connection, and {name} is not in the cache "
                f"({first_line(error.__cause__ or error)}). Fetch it elsewhere with `{command}` and name the "
                "local file"
            ) from error
        except errors.EntryNotFoundError:
            continue
        except errors.RevisionNotFoundError as error:
            raise InputError(f"{address}: the repository has no revision {revision!r}") from error
        except errors.GatedRepoError as error:
            raise InputError(
                f"{address}: accept its conditions on the hub, then log in: hf auth login"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise InputError(
                f"{address}: there is no such repository, or it is private: log in with `hf auth login`, or "
                "set HF_TOKEN"
            ) from error
        except errors.HFValidationError as error:
            raise InputError(f"{address}: write hf://owner/name or hf://owner/name@revision") from error
        except (errors.HfHubHTTPError, OSError) as error:
            raise InputError(f"{address}: the download failed ({first_line(error)})") from error
    raise InputError(f"{address}: the repository has none of {', '.join(_FILES)}")
