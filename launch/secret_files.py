"""Files that look like secrets by their names: keys, passwords, tokens."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import PurePath

NAMES = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".pypirc", ".npmrc", ".my.cnf", ".htpasswd"),
    *(".git-credentials", "credentials", "credentials.*", "*credentials.json", "secrets", "secrets.*", "secret.*"),
    *("*.pem", "*.key", "*.ppk", "*.pfx", "*.p12", "*.jks", "*.keystore", "*.kdbx", "*.kdb", "*.gpg"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "kubeconfig", "*.kubeconfig"),
    *("service-account*.json", "service_account*.json", "client_secret*.json", ".vault-token", ".vault_pass*"),
    *("token", "token.txt", ".*token", "*_token", "*-token", "*_token.txt", "*-token.txt", "*.token"),
    *("*api_key", "*api-key", "*apikey", "*api_key.txt", "*api-key.txt", "*apikey.txt", "private_key*", "private-key*"),
    *("*credentials", "password", "passwords", "password.txt", "passwords.txt", "*_rsa", "*_ed25519", "netrc"),
    *(".boto", ".s3cfg", ".renviron", ".dockercfg", "rclone.conf", "*.ovpn"),
)
"""Of files, in any case."""
FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".azure", ".kube", ".docker", ".gcloud", "gcloud", ".secrets"})
"""With nothing but secrets and settings in them."""
HARMLESS = ("*.py", "*.pyi", "*.ipynb", "*.example", "*.sample", "*.template", "*.dist", "*.pub")
"""Code, and files that show what a secret looks like."""
_COPIES = re.compile(r"(~|\.(bak|old|orig|save|swp))+$")
"""What editors and people append to the name of a copy."""
MOST_NAMED = 5


def looks_secret(path: PurePath) -> bool:
    """Whether a file looks like a secret, by its name or by a folder that it is in; `path` is relative to its tree."""
    if any(folder.lower() in FOLDERS for folder in path.parent.parts):
        return True
    name = _COPIES.sub("", path.name.lower())
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in HARMLESS):
        return False
    is_key_of_ssh = name.startswith("id_") and "." not in name
    return is_key_of_ssh or any(fnmatch.fnmatchcase(name, pattern) for pattern in NAMES)


def describe_secrets(left_out: Sequence[str], copied: Sequence[str]) -> list[str]:
    """What was done with files that look like secrets, for people.

    Args:
        left_out: those that git does not track.
        copied: those that it tracks.
    """
    lines = []
    if left_out:
        lines.append(f"not copied, since they look like secrets: {_name(left_out)}. The job finds them where they are")
    if copied:
        lines.append(f"copied although they look like secrets, since git tracks them: {_name(copied)}")
    return lines


def _name(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more
