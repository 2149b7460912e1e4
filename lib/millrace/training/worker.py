"""What each Horovod process runs. TensorFlow is imported only when threads, devices and environment are set."""

from __future__ import annotations

import atexit
import os
import socket
import sys
import traceback
from collections.abc import MutableMapping, Sequence
from functools import partial

from millrace.errors import MillraceError, TrainingError
from millrace.observe import is_secret_name
from millrace.training.heartbeat import Heartbeat
from millrace.training.request import TrainRequest
from millrace.training.work_watch import WorkWatch

_ALLOWED_NAMES = {
    *("CUDA_HOME", "CUDA_VISIBLE_DEVICES", "HOME", "JAVA_HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "USER"),
    *("PYTHONHASHSEED", "PYTHONPATH", "PYTHONUNBUFFERED", "VIRTUAL_ENV"),
    *("ARROW_DEFAULT_MEMORY_POOL", "ARROW_LIBHDFS_DIR", "CLASSPATH"),
    # Not all that begins with HADOOP_: its options may hold passwords.
    *("HADOOP_COMMON_HOME", "HADOOP_CONF_DIR", "HADOOP_HDFS_HOME", "HADOOP_HOME", "HADOOP_USER_NAME"),
    *("KRB5CCNAME", "KRB5_CONFIG"),
    *("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    *("AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_REGION"),
    *("AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"),
    *("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "GOOGLE_CLOUD_PROJECT"),
}
_FILES_WITH_SECRETS = {
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HADOOP_TOKEN_FILE_LOCATION",
}
"""They hold no secret but where one lies, which whoever may read it needs."""
_ADDRESSES = {
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    *("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "https_proxy", "http_proxy", "no_proxy"),
}
"""Allowed where they hold neither user nor query."""
# Of TensorFlow's own only these: Terraform hands secrets on in TF_VAR_ and TF_TOKEN_.
_ALLOWED_PREFIXES = (
    "HOROVOD_",
    "LC_",
    "NCCL_",
    "OMP_",
    "TF_CPP_",
    "TF_CUDNN_",
    "TF_ENABLE_",
    "TF_FORCE_GPU_",
    "TF_GPU_",
    "TF_XLA_",
)


def is_allowed(name: str, value: str) -> bool:
    """Whether a worker may keep this environment variable: it is on the list, and neither called like a secret nor an address
    that may hold one."""
    if name in _ADDRESSES:
        return "@" not in value and "?" not in value
    if name in _FILES_WITH_SECRETS:
        return "\n" not in value and "{" not in value  # some put the credentials themselves there
    return (name in _ALLOWED_NAMES or name.startswith(_ALLOWED_PREFIXES)) and not is_secret_name(name)


def clean_environment(environment: MutableMapping[str, str]) -> None:
    """Drops every variable that is not on the allow-list, Horovod's own secret included, before anything else can read it."""
    for name in [name for name, value in environment.items() if not is_allowed(name, value)]:
        del environment[name]


def run_worker(request_json: str, address: tuple[str, int], token: str, *, gpus: Sequence[str]) -> str | None:
    """Trains as one rank of the run; gives rank 0's TrainResult as JSON, None on the others.

    `gpus` are the devices that Spark has assigned to this task. What fails is sent to the driver, then the process ends with code
    1: an exception that unwinds would wait for Horovod's other ranks.
    """
    link: Heartbeat | None = None
    try:
        atexit.register(os._exit, 0)  # runs last, after Horovod's own: taking TensorFlow apart object by object costs seconds
        clean_environment(os.environ)
        rank, world_size = int(os.environ["HOROVOD_RANK"]), int(os.environ["HOROVOD_SIZE"])
        link = _connect(address, token, rank)
        watch = WorkWatch(partial(link.send, "busy"))
        request = TrainRequest.from_json(request_json)
        _set_devices(gpus, threads=request.training.threads_per_worker)
        result = _train(request, rank, world_size, link)
        watch.stop()
        link.close()
    except BaseException as error:
        text = _describe(error)
        if link is None:  # its output, which the driver keeps, is all that a worker has without one
            sys.stderr.write(f"{text}\n")
        else:
            link.send("error", error=text, collective=is_collective(error))
        sys.stderr.flush()
        os._exit(1)
    return result if rank == 0 else None


def _connect(address: tuple[str, int], token: str, rank: int) -> Heartbeat:
    try:
        return Heartbeat(address, token, rank)
    except OSError as error:
        raise TrainingError(
            "training",
            expected=f"to reach the driver at {address[0]}:{address[1]}",
            found=f"{error}, on {socket.gethostname()}",
            remedy="Let executors connect to any port of the driver, and see that spark.driver.host is its name for them.",
            retry=True,
        ) from error


def is_collective(error: BaseException) -> bool:
    """Whether this rank only suffers from what another one did: the cause stands in that one's error."""
    if isinstance(error, MillraceError):  # ours may name a path or a table called so
        return False
    return "Horovod" in type(error).__name__ or "Horovod" in str(error)


def _train(request: TrainRequest, rank: int, world_size: int, link: Heartbeat) -> str:
    import tensorflow as tf

    threads = request.training.threads_per_worker
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    from millrace.loading.files import reuse_memory
    from millrace.training.loop import train
    from millrace.training.ranks import Ranks

    reuse_memory()
    if world_size > 1:
        link.wait_for_others()
    ranks = Ranks(rank=rank, world_size=world_size)
    link.send("start")
    return train(request, ranks, tell=link.send).to_json()


def device_of(gpus: Sequence[str], visible: str | None, local_rank: int) -> str:
    """The GPU of a rank, for CUDA_VISIBLE_DEVICES: the one that Spark has assigned to its task, else the one at its local rank
    among those that the executor may see, which are all where nothing is said. Empty: none."""
    if gpus:
        return gpus[0]
    if visible is None:
        return str(local_rank)
    seen = [name.strip() for name in visible.split(",") if name.strip()]
    return seen[local_rank] if local_rank < len(seen) else ""


def _set_devices(gpus: Sequence[str], *, threads: int) -> None:
    assert "tensorflow" not in sys.modules, "it looks at the devices when it is imported"
    local_rank = int(os.environ["HOROVOD_LOCAL_RANK"])
    os.environ["CUDA_VISIBLE_DEVICES"] = device_of(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"), local_rank)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["KERAS_BACKEND"] = "tensorflow"


def _describe(error: BaseException) -> str:
    return error.to_wire() if isinstance(error, MillraceError) else "".join(traceback.format_exception(error)).strip()
