"""Detects files that must not be packed: private keys, credentials, and Kaon's own keys.

Detection is by the names that tools give to their credentials, and by content. Public keys, certificates and examples
(`.env.example`) are not secrets.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

from kaon.types.key import KEY_PREFIX

_NAMES = {
    ".env": "variables of an environment",
    ".env.*": "variables of an environment",
    "*.env": "variables of an environment",
    ".envrc": "variables of an environment",
    "id_rsa": "a private key",
    "id_dsa": "a private key",
    "id_ecdsa": "a private key",
    "id_ecdsa_sk": "a private key",
    "id_ed25519": "a private key",
    "id_ed25519_sk": "a private key",
    "*.ppk": "a private key",
    "*.p12": "a store of private keys",
    "*.pfx": "a store of private keys",
    "*.jks": "a store of private keys",
    "*.keystore": "a store of private keys",
    "*.kdbx": "a store of passwords",
    ".netrc": "logins of hosts",
    "_netrc": "logins of hosts",
    ".git-credentials": "logins of hosts",
    ".pypirc": "logins of package indexes",
    ".pgpass": "passwords of databases",
    ".my.cnf": "passwords of databases",
    ".htpasswd": "passwords",
    ".dockercfg": "logins of registries",
    "credentials": "credentials",
    "credentials.json": "credentials",
    "credentials.db": "credentials",
    "application_default_credentials.json": "credentials of Google Cloud",
    "client_secret*.json": "credentials of Google Cloud",
    "kubeconfig": "credentials of a Kubernetes cluster",
    "*.kubeconfig": "credentials of a Kubernetes cluster",
    "secrets.toml": "secrets",
    "secrets.yaml": "secrets",
    "secrets.yml": "secrets",
    "secrets.json": "secrets",
    "*.tfstate": "the state of Terraform, which has passwords in it",
    "admin.key": "a key of Kaon",
    "agent.key": "a key of Kaon",
    "secret.key": "a key of Kaon",
}
_FOLDERS = {
    ".aws": "credentials of AWS",
    ".azure": "credentials of Azure",
    ".docker": "logins of registries",
    ".gcloud": "credentials of Google Cloud",
    ".gnupg": "private keys",
    ".kaon": "keys of Kaon",
    ".kube": "credentials of a Kubernetes cluster",
    ".ssh": "private keys",
}
_EXAMPLES = (".example", ".sample", ".template", ".dist", ".pub")

# Every program that reads keys contains the header; a key has base64 or a header line of its own after it.
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:[\s\"'+,]|\\r|\\n){1,80}(?:[A-Za-z0-9+/=]{20}|Proc-Type:|Version:|Comment:)"
)
_KAON_KEY = re.compile(rb"(?<![A-Za-z0-9_-])" + KEY_PREFIX.encode() + rb"[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
_NPM_TOKEN = re.compile(rb"_(?:authToken|auth|password)\s{0,9}=")
_INDEX_LOGIN = re.compile(
    rb"(?:index-url|extra-index-url|find-links|url)[\s=\"'\[]{1,9}https?://[^\s/:@\"']{1,200}:(?!\$\{)[^\s/@\"']{1,400}@"
)
_ACCOUNT = re.compile(rb'"type"\s{0,99}:\s{0,99}"(?:service_account|authorized_user)"')
_ACCOUNT_SECRET = re.compile(rb'"(?:private_key|refresh_token)"\s{0,99}:')
_CLUSTER_SECRET = re.compile(rb"(?:client-key-data|token|password)\s{0,9}:\s{0,9}\S")
_TEXT_BYTES_MAX = 2**20
_BLOCK_BYTES, _OVERLAP_BYTES = 2**22, 2**10
"""Files are read block by block, so that a large one takes no memory; a secret is shorter than the overlap."""


def by_name(path: str) -> str:
    """The kind of secret that a file has by its path, like 'a private key'; empty when it is none."""
    *folders, name = path.lower().split("/")
    if name.endswith(_EXAMPLES):
        return ""
    inside = next((_FOLDERS[folder] for folder in folders if folder in _FOLDERS), "")
    return inside or next((what for pattern, what in _NAMES.items() if fnmatchcase(name, pattern)), "")


def by_content(file: Path) -> str:
    """The kind of secret in a file's content, like 'a private key'; empty when none is found."""
    with file.open("rb") as opened:
        text, before = b"", b""
        while block := opened.read(_BLOCK_BYTES):
            text = text or block[:_TEXT_BYTES_MAX]
            window = before + block
            if _found(window, b"PRIVATE KEY", _PRIVATE_KEY):
                return "a private key"
            if _found(window, KEY_PREFIX.encode(), _KAON_KEY):
                return "a key of Kaon"
            before = block[-_OVERLAP_BYTES:]
        return _by_form(file.name.lower(), text)


def _by_form(name: str, text: bytes) -> str:
    """Secrets in files of known formats."""
    if name == ".npmrc" and _NPM_TOKEN.search(text):
        return "logins of package indexes"
    if name.endswith((".txt", ".in", ".toml", ".conf", ".cfg", ".ini")) and _INDEX_LOGIN.search(text):
        return "logins of package indexes"
    if name.endswith(".json") and _ACCOUNT.search(text) and _ACCOUNT_SECRET.search(text):
        return "credentials of Google Cloud"
    if name.endswith((".yaml", ".yml", ".conf", "config")) and b"current-context:" in text and b"clusters:" in text:
        return "credentials of a Kubernetes cluster" if _CLUSTER_SECRET.search(text) else ""
    return ""


def _found(content: bytes, word: bytes, pattern: re.Pattern[bytes]) -> bool:
    """Whether the pattern matches; the search for a word of it excludes most files quickly."""
    return content.find(word) >= 0 and pattern.search(content) is not None
