"""Real servers for tests, each with its own directory and free loopback ports."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

ROOT = Path(__file__).parent.parent
SERVICES = ROOT / ".cache" / "services"
CUSTODES = ROOT / ".venv" / "bin" / "custodes"
MOTO = ROOT / ".venv" / "bin" / "moto_server"

T = TypeVar("T")


def missing(what: str) -> None:
    """Skips the test with the server's name, or fails it if skipping is not allowed."""
    message = f"{what} is not here; run tests/services/install"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def program(name: str) -> Path:
    """Returns a program unpacked by tests/services/install, or one from PATH."""
    unpacked = (SERVICES / "debian" / "usr" / "bin" / name, SERVICES / name / name)
    found = next((str(path) for path in unpacked if path.is_file()), None) or shutil.which(name)
    if found is None:
        missing(name)
    return Path(str(found))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: str, condition: Callable[[], T | None], limit: float = 90.0) -> T:
    """Waits until ``condition`` is true and returns its value; fails after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = condition()
        except (OSError, urllib.error.URLError) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(0.05)
    pytest.fail(f"waited {limit} s for {what}; last: {last!r}")


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


def get_json(url: str) -> Any:
    return json.loads(get(url))


class Server:
    """A process with a log; tests end it."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str | Path],
        env: dict[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log.txt"
        self._user = user
        self._folder, self._command, self._env = folder, [str(part) for part in command], env or {}
        self.start_again()

    def start_again(self) -> None:
        """Starts the same command in the same folder."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder if self._user is None else "/",
                user=self._user,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
            )

    def kill(self) -> None:
        """Kills the process, as a power loss would."""
        self.process.kill()
        self.process.wait()

    def wait_for(self, what: str, condition: Callable[[], T | None], limit: float = 90.0) -> T:
        """Like :func:`eventually`, but shows the log if the process has exited."""

        def alive_and_so() -> T | None:
            if self.process.poll() is not None:
                pytest.fail(f"{what}: exited with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            return condition()

        try:
            return eventually(what, alive_and_so, limit)
        except pytest.fail.Exception as failure:
            pytest.fail(f"{failure}; its log:\n{self.log.read_text()[-8000:]}")

    def stop(self, limit: float = 15.0) -> int:
        self.process.terminate()
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@dataclass(frozen=True)
class Quorum:
    """The brokers of one cluster; each is also a controller."""

    controllers: Sequence[int]
    """Ports of their controllers, in order."""
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:22])


@dataclass(frozen=True)
class Listener:
    """A further listener of a broker, for clients."""

    name: str
    """In capital letters."""
    protocol: str
    """``SSL``, ``SASL_SSL`` or ``SASL_PLAINTEXT``."""
    settings: Mapping[str, str | Path]
    """The broker's settings, without ``listener.name.…`` in front."""


class Kafka(Server):
    """A broker in KRaft mode, alone or as a member of a quorum."""

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        quorum: Quorum | None = None,
        node: int = 0,
        password: str = "",
        listeners: Sequence[Listener] = (),
        java: Sequence[str] = (),
    ) -> None:
        """With a ``password`` it has an additional listener, :attr:`guarded`, for a user named ``custodes``.

        ``listeners`` are further ones; their addresses are in :attr:`addresses`. ``java`` are options of the process.

        A member of a quorum listens only when a majority is up: wait for that (:meth:`listens`).
        """
        jars = SERVICES / "kafka"
        if not (jars / ".complete").exists() or shutil.which("java") is None:
            missing("Kafka")
        port, guarded = port or free_port(), free_port()
        quorum_or_self = quorum or Quorum([free_port()])
        controllers = quorum_or_self.controllers
        self.bootstrap, self.guarded = f"127.0.0.1:{port}", f"127.0.0.1:{guarded}"
        self.addresses = {listener.name: f"127.0.0.1:{free_port()}" for listener in listeners}
        guard = f",SASL_PLAINTEXT://{self.guarded}" if password else ""
        guard += "".join(f",{name}://{address}" for name, address in self.addresses.items())
        protocols = "".join(f",{listener.name}:{listener.protocol}" for listener in listeners)
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / "server.properties"
        settings.write_text(
            f"process.roles=broker,controller\nnode.id={node}\ncontroller.quorum.voters="
            + ",".join(f"{at}@127.0.0.1:{controller}" for at, controller in enumerate(controllers))
            + f"\nlisteners=PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controllers[node]}{guard}\n"
            "listener.security.protocol.map="
            f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT{protocols}\n"
            f"advertised.listeners=PLAINTEXT://{self.bootstrap}{guard}\ncontroller.listener.names=CONTROLLER\n"
            f"log.dirs={folder / 'data'}\noffsets.topic.replication.factor={len(controllers)}\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
            "group.initial.rebalance.delay.ms=0\noffsets.topic.num.partitions=1\n"
            "auto.create.topics.enable=false\n"
            # A killed broker can return only after its session has expired.
            "broker.heartbeat.interval.ms=500\nbroker.session.timeout.ms=2000\n"
            # Existing connections must re-authenticate.
            "sasl.enabled.mechanisms=SCRAM-SHA-256\nconnections.max.reauth.ms=3000\n"
            "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config="
            "org.apache.kafka.common.security.scram.ScramLoginModule required;\n"
            + "".join(
                f"listener.name.{listener.name.lower()}.{key}={value}\n"
                for listener in listeners
                for key, value in listener.settings.items()
            )
        )
        command = ["java", "-Xmx512m", *java, "-cp", f"{jars}/*"]
        format_: list[str | Path] = ["kafka.tools.StorageTool", "format", "-t", quorum_or_self.name, "-c", settings]
        subprocess.run([*command, *format_], check=True, capture_output=True)
        super().__init__(folder, [*command, "kafka.Kafka", settings])
        if quorum is None:
            self.wait_for("Kafka to listen", self.listens, 60)
        if password:
            self.set_password(password)

    def set_password(self, password: str) -> None:
        """Changes the password of the user named ``custodes``."""
        from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion  # noqa: PLC0415 - as below

        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        changed = UserScramCredentialUpsertion("custodes", ScramMechanism.SCRAM_SHA_256, password)
        try:
            assert admin.alter_user_scram_credentials([changed]) == {"custodes": None}
        finally:
            admin.close()

    def listens(self) -> bool:
        host, _, port = self.bootstrap.partition(":")
        with socket.create_connection((host, int(port)), timeout=1):
            return True

    def create_topic(self, name: str, partitions: int, replicas: int = 1, **settings: str) -> None:
        """Settings have underscores for dots: with ``compression_type`` the broker recompresses."""
        from kafka.admin import KafkaAdminClient, NewTopic  # noqa: PLC0415 - only where a broker is used

        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            configs = {key.replace("_", "."): value for key, value in settings.items()}
            admin.create_topics(
                [NewTopic(name=name, num_partitions=partitions, replication_factor=replicas, topic_configs=configs)]
            )
        finally:
            admin.close()


def postgresql_program(name: str) -> Path:
    """Returns one of PostgreSQL's programs, which Debian does not put on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        missing("PostgreSQL")
    return found[-1]


class PostgreSQL(Server):
    """A database server with a separate database for each caller."""

    def __init__(self, folder: Path) -> None:
        initdb, postgres = postgresql_program("initdb"), postgresql_program("postgres")
        self.port = free_port()
        data = folder / "data"
        folder.mkdir(parents=True, exist_ok=True)
        # PostgreSQL refuses to run as root and needs access to its data folder.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            data.mkdir()
            shutil.chown(data, self._user)
            for above in [folder, *folder.parents]:
                if above.stat().st_uid == 0 and above != Path("/"):
                    above.chmod(above.stat().st_mode | 0o011)
        initialise: list[str | Path] = [initdb, "-D", data, "-U", "custodes", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initialise, check=True, capture_output=True, user=self._user, cwd="/")
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        super().__init__(folder, [postgres, "-D", data, *options], user=self._user)
        self.wait_for("PostgreSQL to answer", self._answers)

    def _answers(self) -> bool:
        with self._connect():
            return True

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(
                host="127.0.0.1", port=self.port, user="custodes", dbname="postgres", autocommit=True
            )  # fmt: skip
        except psycopg.OperationalError as error:
            raise OSError(str(error)) from error

    def database(self, name: str) -> str:
        """Creates a database and returns its SQLAlchemy URL."""
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://custodes@127.0.0.1:{self.port}/{name}"


class PgBouncer(Server):
    """A pooler in front of a database server that gives each transaction one of a few sessions."""

    def __init__(self, folder: Path, behind: PostgreSQL) -> None:
        found = Path("/usr/sbin/pgbouncer")
        if not found.is_file():
            missing("PgBouncer")
        self._behind, self._port = behind, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "users.txt").write_text('"custodes" ""\n')
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": self._port, "unix_socket_dir": "",
            "auth_type": "trust", "auth_file": folder / "users.txt",
            "pool_mode": "transaction", "default_pool_size": 3, "server_reset_query_always": 0,
        }  # fmt: skip
        lines = [f"{name} = {value}" for name, value in settings.items()]
        text = f"[databases]\n* = host=127.0.0.1 port={behind.port}\n[pgbouncer]\n" + "\n".join(lines) + "\n"
        config = folder / "pgbouncer.ini"
        config.write_text(text)
        user = "postgres" if os.geteuid() == 0 else None
        if user is not None:
            for above in [folder, *folder.parents]:
                if above.stat().st_uid == 0 and above != Path("/"):
                    above.chmod(above.stat().st_mode | 0o011)
            for file in (config, folder / "users.txt"):
                file.chmod(0o644)
        super().__init__(folder, [found, config], user=user)
        self.wait_for("PgBouncer to listen", self._listens)

    def _listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True

    def database(self, name: str) -> str:
        """Creates a database and returns its SQLAlchemy URL through the pooler."""
        return self._behind.database(name).replace(f":{self._behind.port}/", f":{self._port}/")


class Webhook:
    """Receives notifications and records them; :meth:`received` waits for one."""

    def __init__(self) -> None:
        notes: list[tuple[str, Any]] = []
        self._notes = notes

        class WebhookHandler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                notes.append((self.path, json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WebhookHandler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def received(self, path: str, wanted: Callable[[dict[str, Any]], bool], limit: float = 60.0) -> dict[str, Any]:
        """Returns the first alert sent to ``path`` that meets ``wanted``."""

        def came() -> dict[str, Any] | None:
            alerts = [(came_to, alert) for came_to, note in list(self._notes) for alert in note["alerts"]]
            return next((dict(alert) for came_to, alert in alerts if came_to == path and wanted(alert)), None)

        return eventually(f"an alert on {path}", came, limit)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
