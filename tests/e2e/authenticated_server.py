"""An MLflow server of the tests that lets in only those with a password."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import requests
from servers import free_port, is_healthy, wait_for

ADMIN = "admin"
_CONFIG = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


class AuthenticatedServer:
    """`mlflow server --app-name basic-auth` on loopback; what it keeps, and its log, are in a folder.

    Attributes:
        uri: its address.
        passwords: user to password; no other place has them in clear.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passwords = {ADMIN: new_password()}
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        config = folder / "auth.ini"
        config.write_text(_CONFIG.format(folder=folder, admin=ADMIN))
        with (folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth",
                 "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                 "--backend-store-uri", f"sqlite:///{folder}/server.db",
                 "--artifacts-destination", str(folder / "artifacts")],
                stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "MLFLOW_AUTH_CONFIG_PATH": str(config),
                     "MLFLOW_AUTH_ADMIN_PASSWORD": self.passwords[ADMIN],
                     "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
                     "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )  # fmt: skip
        wait_for(lambda: is_healthy(self.uri))

    def add_user(self, name: str) -> dict[str, str]:
        """Makes a user; the environment variables that are theirs."""
        self.passwords[name] = new_password()
        self._ask("POST", "users/create", {"username": name, "password": self.passwords[name]})
        return credentials(name, self.passwords[name])

    def change_password(self, name: str) -> str:
        """Gives a user another password, and returns it."""
        self.passwords[name] = new_password()
        asked = {"username": name, "password": self.passwords[name]}
        self._ask("PATCH", "users/update-password", asked)
        return self.passwords[name]

    def _ask(self, method: str, place: str, content: dict[str, str]) -> None:
        answer = requests.request(
            method,
            f"{self.uri}/api/2.0/mlflow/{place}",
            json=content,
            auth=(ADMIN, self.passwords[ADMIN]),
            timeout=30,
        )
        answer.raise_for_status()

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def credentials(user: str, password: str) -> dict[str, str]:
    """As MLflow's environment variables."""
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}


def new_password() -> str:
    """One that nothing else looks like."""
    return f"pass-{secrets.token_hex(12)}"
