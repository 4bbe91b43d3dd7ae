"""Which files look like secrets."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from launch.secret_files import describe_secrets, looks_secret


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".env.local", "sub/prod.env", ".envrc", "server.pem", "sub/My.KEY", "id_rsa", "id_ed25519.bak"),
        *("id_work", ".netrc", ".pypirc", ".git-credentials", "credentials", "credentials.json", "secrets.yaml"),
        *(
            "my-credentials.json",
            "passwords.kdbx",
            "cert.p12",
            ".ssh/config",
            "home/.aws/config",
            "sub/.SSH/known_hosts",
        ),
        *("token", "token.txt", ".hf_token", "wandb-token", "api_key.txt", ".wandb_api_key", "private_key.json"),
        *("aws_credentials", "passwords.txt", "deploy_rsa", ".s3cfg", ".Renviron", "rclone.conf", "site.ovpn"),
        *("server.pem.old", ".env~", ".key.pem.swp", "id_rsa.bak"),
        *("kubeconfig", "service-account-3.json", "client_secret_7.json", "secrets.toml", "credentials.csv"),
    ],
)
def test_what_looks_like_a_secret(path: str) -> None:
    assert looks_secret(PurePath(path))


@pytest.mark.parametrize(
    "path",
    [
        *("train.py", "secrets.py", "credentials.py", "id_map.py", "id_map.yaml", ".env.example", "id_rsa.pub"),
        *("environment.yaml", "env", "keys.txt", "monkey", "configs/signs.yaml", "ssh/config", "tokenizer.json"),
        *("special_tokens_map.json", "token_embeddings.yaml", "tokens.json", "train.py.bak", "notes.txt~", "old.bak"),
        *("secrets/README.md", ".gitignore", "pem.txt", ".github/workflows/ci.yml"),
    ],
)
def test_what_does_not(path: str) -> None:
    assert not looks_secret(PurePath(path))


def test_what_was_done_with_them_is_told() -> None:
    assert describe_secrets([], []) == []
    assert describe_secrets([f"{number}.pem" for number in range(7)], [".env"]) == [
        "not copied, since they look like secrets: 0.pem, 1.pem, 2.pem, 3.pem, 4.pem and 2 more. The job finds them "
        "where they are",
        "copied although they look like secrets, since git tracks them: .env",
    ]
