"""Paths of the process driver's files, under the agent's home and the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PRIVATE = 0o700


@dataclass(frozen=True)
class Places:
    """Folders of the driver. `home` is permanent; `run_dir` holds sockets and locks and has a short path."""

    home: Path
    run_dir: Path

    @property
    def artifacts(self) -> Path:
        """Unpacked artifacts, by digest."""
        return self.home / "artifacts"

    @property
    def environments(self) -> Path:
        """Virtual environments, by lock hash."""
        return self.home / "environments"

    def artifact(self, digest: str) -> Path:
        """The unpacked artifact."""
        return self.artifacts / digest.removeprefix("sha256:")

    def replica(self, replica: str) -> Path:
        """The folder of a replica's launch file and logs."""
        return self.home / "replicas" / replica

    def launch_file(self, replica: str) -> Path:
        """The replica's `Launch`; it exists from before the start until `forget`."""
        return self.replica(replica) / "launch.json"

    def job_dir(self, replica: str) -> Path:
        """The folder of a job: its outputs, result and progress, until `forget`."""
        return self.home / "jobs" / replica

    def exit_file(self, replica: str) -> Path:
        """The exit code of the replica's process, written by its parent once it has ended."""
        return self.replica(replica) / "exit.json"

    def ended_file(self, replica: str) -> Path:
        """The driver's last observation of the replica, written once it has ended."""
        return self.replica(replica) / "ended.json"

    def log_file(self, replica: str) -> Path:
        """The replica's log; rotated files have a number at the end."""
        return self.replica(replica) / "replica.log"

    def sockets(self, replica: str) -> Path:
        """The folder of the replica's lock and sockets."""
        return self.run_dir / "replicas" / replica

    def lock(self, replica: str) -> Path:
        """The lock that the replica's process holds."""
        return self.sockets(replica) / "lock"

    def service_socket(self, replica: str) -> Path:
        """The socket for calls."""
        return self.sockets(replica) / "service.sock"

    def control_socket(self, replica: str) -> Path:
        """The socket for the agent."""
        return self.sockets(replica) / "control.sock"

    def flights(self, replica: str) -> Path:
        """The file in which the replica records its calls in flight."""
        return self.sockets(replica) / "flights"

    def log_pipe(self, replica: str) -> Path:
        """The pipe between the output of the replica's processes and the keeper of its log."""
        return self.sockets(replica) / "log.pipe"

    def log_lock(self, replica: str) -> Path:
        """The lock that the keeper of the replica's log holds."""
        return self.sockets(replica) / "log.lock"

    def volume(self, workspace: str, deployment: str, uid: str) -> Path:
        """The deployment's own folder, which outlives its replicas; a later deployment of the same name has another.

        A folder that an older Kaon named by the deployment alone is given to the first deployment that needs one.
        """
        own, before = self.home / "volumes" / workspace / f"{deployment}.{uid}", self.home / "volumes" / workspace
        if uid and not own.exists() and (before / deployment).is_dir():
            (before / deployment).rename(own)
        return own if uid else before / deployment

    def launched(self) -> list[str]:
        """Replicas that have a launch file."""
        return sorted(file.parent.name for file in self.home.glob("replicas/*/launch.json"))

    def job_dirs(self) -> list[Path]:
        """The folders of jobs."""
        return sorted((self.home / "jobs").glob("*"))

    def locked(self) -> list[str]:
        """Replicas that have a lock file, held or not."""
        return sorted(file.parent.name for file in self.run_dir.glob("replicas/*/lock"))


def private_folder(path: Path) -> Path:
    """`path`, made when missing, for its owner only."""
    path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    return path
