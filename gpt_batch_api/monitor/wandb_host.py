"""What can be told of wandb without importing it, which takes a second: where its host is, whether there is a key, whether
the host answers.

wandb reads the same places by itself later, and its word counts: who finds another address there asks that one.
"""

from __future__ import annotations

import configparser
import http.client
import importlib.util
import netrc
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from gpt_batch_api.monitor.tracker import installed

REACH_TIMEOUT_S = 5.0
_KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
_VARIABLES = {"root_dir": "WANDB_DIR"}
_SECTION = "default"


def may_be_logged_in() -> bool:
    """Whether it is worth asking wandb: it is installed, and there is somewhere that a key could be."""
    if not installed("wandb"):
        return False
    return _key_in_environment() or _netrc() is not None


def expected_host() -> str | None:
    """The address that wandb will send to, if there is a key for it; None where only wandb itself can know."""
    if setting("mode") not in (None, "online"):
        return None
    address = setting("base_url") or getattr(_urls_of_wandb(), "DEFAULT_BASE_URL", None)
    if address is None or not (_key_in_environment() or _key_in_netrc(address)):
        return None
    return address.rstrip("/")


def told_offline() -> bool:
    """Whether its user has told wandb to write to disk only."""
    return setting("mode") in ("offline", "dryrun")


def setting(name: str) -> str | None:
    """One of wandb's settings: from the environment, else from its file in the working folder, else from the user's."""
    if value := os.environ.get(_VARIABLES.get(name, f"WANDB_{name.upper()}")):
        return value
    users = os.environ.get("WANDB_CONFIG_DIR") or Path("~", ".config", "wandb")
    for path in (wandb_folder(Path()) / "settings", Path(users).expanduser() / "settings"):
        parser = configparser.ConfigParser()
        try:
            parser.read(path)
            if value := parser.get(_SECTION, name, fallback=None):
                return value
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
    return None


def wandb_folder(parent: Path) -> Path:
    """Where wandb writes if it is told to write to *parent*."""
    return parent / (".wandb" if (parent / ".wandb").exists() else "wandb")


class Reach:
    """Whether a server is there at all; asked from now on, in a thread."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._found = False
        self._known = threading.Event()
        self._begin = time.monotonic()
        threading.Thread(target=self._ask, name="tracker-reach", daemon=True).start()

    def answers(self, *, within_s: float) -> bool:
        """Whether it has answered within so many seconds after it was asked."""
        self._known.wait(max(0.0, within_s - self.age_s))
        return self._found

    @property
    def age_s(self) -> float:
        """Seconds since it was asked."""
        return time.monotonic() - self._begin

    def give_up(self) -> None:
        """Let nobody wait any longer."""
        self._known.set()

    def _ask(self) -> None:
        try:
            with urllib.request.urlopen(self.address, timeout=REACH_TIMEOUT_S):
                self._found = True
        except urllib.error.HTTPError:
            self._found = True
        except urllib.error.URLError as error:
            self._found = isinstance(error.reason, ssl.SSLError)  # it may trust other certificates than wandb does
        except (OSError, ValueError, http.client.HTTPException):
            pass
        finally:
            self._known.set()


def _key_in_environment() -> bool:
    return any(os.environ.get(name) for name in _KEYS)


def _key_in_netrc(address: str) -> bool:
    path = _netrc()
    if path is None:
        return False
    try:
        urls = _urls_of_wandb()
        addresses = [address] if urls is None else [address, urls.forge_upstream_url(address)]
        known = netrc.netrc(path)
        return any(found[2] for each in addresses if (found := known.authenticators(urlsplit(each).netloc)))
    except (OSError, ValueError, netrc.NetrcParseError):
        return False


def _netrc() -> Path | None:
    paths = [Path(os.environ["NETRC"])] if "NETRC" in os.environ else [Path("~/.netrc"), Path("~/_netrc")]
    return next((path.expanduser() for path in paths if path.expanduser().exists()), None)


def _urls_of_wandb() -> ModuleType | None:
    """wandb's own file with its addresses, by itself; None if this wandb has no such file."""
    try:
        package = importlib.util.find_spec("wandb")
        assert package is not None
        assert package.origin is not None
        path = Path(package.origin).parent / "sdk" / "lib" / "urls.py"
        spec = importlib.util.spec_from_file_location("_urls_of_wandb", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception:  # it is not our file, and only saves time
        return None
    return module if callable(getattr(module, "forge_upstream_url", None)) else None
