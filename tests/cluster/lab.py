"""A laboratory of machines inside this one: a laptop and three hosts on a network of their own.

Each machine is one process in namespaces of its own: network, mounts, processes, host name. It has its
own /tmp, /run, /dev/shm and home, one core and one sshd; they share a folder, as machines share an NFS
mount. A process namespace is a must: `ray up` runs `ray stop` on each machine, which ends every Ray that
it can see. Nothing of this has a name outside: when the processes are gone, and the kernel ends them with
the process that made them however that ends, so are the network, the mounts and the files.

    laptop (bridge, 198.51.100.1) --- head (.10), gpu-1 (.11), gpu-2 (.12)

Needs root and, of Debian's packages, iproute2, openssh-server, rsync and util-linux.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NETWORK = "198.51.100"  # TEST-NET-2, for documentation: routed nowhere.
LAPTOP, HEAD, WORKERS = "laptop", "head", ("gpu-1", "gpu-2")
ADDRESSES = {
    name: f"{NETWORK}.{number}"
    for name, number in zip((LAPTOP, HEAD, *WORKERS), (1, 10, 11, 12), strict=True)
}
PROGRAMS = {
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
SHARED = "/mnt/shared"  # Where every machine sees the folder that they share.
SSHD = (
    *("UsePAM=no", "PasswordAuthentication=no", "KbdInteractiveAuthentication=no"),
    "PermitRootLogin=prohibit-password",
    *("PidFile=/run/sshd.pid", "LogLevel=ERROR", "MaxStartups=100"),
)
# As Debian's, which ends here for shells that are not interactive; and cores are counted by Ray as it
# does outside of containers.
BASHRC = f"""export PYTHONPATH={ROOT} PYTHONDONTWRITEBYTECODE=1 RAY_USE_MULTIPROCESSING_CPU_COUNT=1
case $- in *i*) ;; *) return;; esac
"""
PATIENCE_S = 30
ENDS_WITH_PARENT = (
    "setpriv",
    "--pdeathsig=KILL",
)  # However that ends; and unshare's own child with it.
# What the cluster file has to be told of this laboratory; the rest of it stays as it is.
CHANGES = {
    "head_ip: 192.0.2.10 ": f"head_ip: {ADDRESSES[HEAD]} ",
    "[192.0.2.11, 192.0.2.12]": f"[{', '.join(ADDRESSES[each] for each in WORKERS)}]",
    "ssh_user: ubuntu": "ssh_user: root",
    "mountpoint -q /shared": f"mountpoint -q {SHARED}",
    "HDSWEEP_HOME=/shared/hdsweep": f"HDSWEEP_HOME={SHARED}/hdsweep",
    # There is no network to install from: it has been done.
    "cd ~/hdsweep && make install": "test -x ~/hdsweep/.venv/bin/ray",
}


def why_not() -> str | None:
    """Return what is missing to build a laboratory here; None if nothing is."""
    if os.geteuid() != 0:
        return "a laboratory of machines needs root, for namespaces of networks and mounts"
    absent = sorted({package for name, package in PROGRAMS.items() if shutil.which(name) is None})
    return f"a laboratory of machines needs {', '.join(absent)}" if absent else None


class Machine:
    """One machine: a process that is the first of its namespaces, and a way in."""

    def __init__(self, name: str, state: Path, shared: Path) -> None:
        """Switch it on; it is not connected to anything."""
        self.name, self.address = name, ADDRESSES[name]
        namespaces = ("--net", "--mount", "--pid", "--uts", "--ipc", "--mount-proc")
        init = str(Path(__file__).with_name("machine.sh"))
        self._unshare = subprocess.Popen(
            [*ENDS_WITH_PARENT, "unshare", *namespaces, "--fork", "--kill-child", "bash", init],
            env={
                **environment(),
                "NAME": name,
                "STATE": str(state),
                "SHARED": str(shared),
                "VENV": sys.prefix,
                "KEPT": "\n".join(_kept()),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == "ready\n", f"{name} did not start"
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self.pid = int(children.read_text())

    def command(self, *command: str) -> list[str]:
        """Return what runs a command on this machine."""
        into = ("--net", "--mount", "--pid", "--uts", "--ipc", f"--wd={_home()}")
        return ["nsenter", f"--target={self.pid}", *into, *command]

    def run(
        self, *command: str, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine and return what it printed."""
        done = subprocess.run(
            self.command(*command),
            check=False,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not (check and done.returncode), f"{command}: {done.stdout}\n{done.stderr}"
        return done

    def start(self, *command: str, output: Path) -> subprocess.Popen[bytes]:
        """Start a command on this machine, its output and its errors going to a file."""
        with output.open("w") as file:
            return subprocess.Popen(
                self.command(*command),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def shell(self, script: str) -> str:
        """Run a shell script on this machine and return its standard output."""
        return self.run("bash", "-euc", script).stdout

    def start_sshd(self) -> None:
        """Let people in who have the key."""
        key = "/run/host_key"
        self.shell(f"test -f {key} || ssh-keygen -q -t ed25519 -N '' -f {key}")
        options = [part for option in SSHD for part in ("-o", option)]
        self.run(str(shutil.which("sshd")), "-f", "/dev/null", "-h", key, *options)

    def stop_sshd(self) -> None:
        """Let nobody in any more, and close the connections there are."""
        self.shell("pkill -x sshd || true")

    def power_off(self) -> None:
        """End everything that runs on this machine at once, as without current."""
        self._unshare.kill()
        self._unshare.wait()
        wait_until(lambda: not Path(f"/proc/{self.pid}").exists(), f"{self.name} is off")


class Lab:
    """The machines and the network between them."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.shared = folder, folder / "shared"
        self._machines: dict[str, Machine] = {}
        self.shared.mkdir()
        _write_state(folder)

    def __getitem__(self, name: str) -> Machine:
        return self._machines[name]

    @property
    def laptop(self) -> Machine:
        """Where the person sits; the switch is there too."""
        return self[LAPTOP]

    def build(self) -> None:
        """Start all machines, connect them, and give the laptop the key of the others."""
        self._machines[LAPTOP] = Machine(LAPTOP, self._folder, self.shared)
        self.laptop.shell(
            "ip link add switch type bridge && ip link set switch up"
            f" && ip address add {self.laptop.address}/24 dev switch"
            f" && umask 077 && echo '{(self._folder / 'key').read_text()}' > ~/.ssh/id_ed25519"
        )
        for name in (HEAD, *WORKERS):
            self.switch_on(name)

    def switch_on(self, name: str) -> None:
        """Start a machine anew, empty, and connect it to the switch."""
        machine = self._machines[name] = Machine(name, self._folder, self.shared)
        # The process id is that of outside, so only the network is entered.
        network = ("nsenter", f"--target={self.laptop.pid}", "--net", "ip", "link")
        port = ("add", f"to-{name}", "type", "veth", "peer", "name", "eth0")
        subprocess.run([*network, *port, "netns", str(machine.pid)], check=True)
        self.laptop.shell(f"ip link set to-{name} master switch up")
        machine.shell(
            f"ip address add {machine.address}/24 dev eth0 && ip link set eth0 up"
            f" && ip route add default via {self.laptop.address}"
        )
        machine.start_sshd()

    def unplug(self, name: str) -> None:
        """Pull the cable of a machine out of the switch."""
        self.laptop.run("ip", "link", "set", f"to-{name}", "down")

    def plug_in(self, name: str) -> None:
        """Put the cable back."""
        self.laptop.run("ip", "link", "set", f"to-{name}", "up")

    def close(self) -> None:
        """Switch everything off."""
        for machine in self._machines.values():
            machine.power_off()

    def cluster_file(self, *changes: tuple[str, str]) -> str:
        """Return our file for one's own machines with what is particular to this laboratory changed.

        Args:
            changes: further ones, each a text and what replaces it.
        """
        text = (ROOT / "cluster" / "on_prem.yaml").read_text()
        for old, new in (*CHANGES.items(), *changes):
            assert old in text, f"on_prem.yaml does not say {old!r} any more"
            text = text.replace(old, new)
        (self.shared / "cluster.yaml").write_text(text)
        return f"{SHARED}/cluster.yaml"


@contextlib.contextmanager
def laboratory(folder: Path) -> Iterator[Lab]:
    """Have machines for as long as needed; their shared folder lies in an empty one."""
    lab = Lab(folder)
    try:
        lab.build()
        yield lab
    finally:
        lab.close()


def wait_until(done: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> float:
    """Wait for something to come true and return how long it took."""
    start = time.monotonic()
    while not done():
        assert time.monotonic() < start + seconds, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - start


def environment() -> dict[str, str]:
    """Return the environment of a machine: nothing of ours but the way to the code under test."""
    return {
        "HOME": _home(),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _home() -> str:
    return pwd.getpwuid(os.geteuid()).pw_dir  # Where sshd looks, whatever HOME says.


def _kept() -> list[str]:
    """Return the folders of code: the checkout, its environment, the interpreter of that."""
    return [str(Path(each).resolve()) for each in (ROOT, sys.prefix, sys.base_prefix)]


def _write_state(folder: Path) -> None:
    """Write what every machine gets: names, the key that opens them, a .bashrc."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True
    )
    (folder / "authorized_keys").write_text((folder / "key.pub").read_text())
    names = "".join(f"{address} {name}\n" for name, address in ADDRESSES.items())
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
    (folder / "resolv.conf").write_text("")
    (folder / "bashrc").write_text(BASHRC)
