"""What a worker process keeps and imports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from millrace.errors import PlanError, TrainingError, find_in
from millrace.training.listener import HeartbeatServer
from millrace.training.worker import _describe, clean_environment, device_of, is_collective


def test_only_allowed_variables_stay():
    environment = dict.fromkeys(
        [
            *(
                "PATH",
                "HOME",
                "LANG",
                "LC_ALL",
                "JAVA_HOME",
                "HOROVOD_RANK",
                "OMP_NUM_THREADS",
                "PYTHONPATH",
                "TF_CPP_MIN_LOG_LEVEL",
            ),
            *("AWS_SECRET_ACCESS_KEY", "_HOROVOD_SECRET_KEY", "PYSPARK_GATEWAY_SECRET", "CANARY", "MILLRACE_SECRET"),
            *("MILLRACE_DATA", "TF_VAR_password", "TF_TOKEN_host", "TF_VAR_user", "HOROVOD_API_KEY", "TF_CPP_MIN_LOG_LEVEL"),
        ],
        "value",
    )
    clean_environment(environment)
    assert sorted(environment) == [
        *("HOME", "HOROVOD_RANK", "JAVA_HOME", "LANG", "LC_ALL", "OMP_NUM_THREADS", "PATH", "PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "stays"),
    [
        ("CLASSPATH", "/opt/hadoop/share/*", True),
        ("HADOOP_CONF_DIR", "/etc/hadoop", True),
        ("HADOOP_TOKEN_FILE_LOCATION", "/run/tokens", True),
        ("HADOOP_OPTS", "-Dpassword=canary", False),
        ("HADOOP_CREDSTORE_PASSWORD", "canary", False),
        ("ARROW_LIBHDFS_DIR", "/opt/hadoop/lib/native", True),
        ("ARROW_DEFAULT_MEMORY_POOL", "system", True),
        ("KRB5CCNAME", "FILE:/tmp/krb5cc_0", True),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/reader", True),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token", True),
        ("AWS_SHARED_CREDENTIALS_FILE", "/etc/aws", True),
        ("AWS_SESSION_TOKEN", "canary", False),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary", False),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/key.json", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", '{"private_key": "canary"}', False),
        ("AZURE_CLIENT_SECRET", "canary", False),
        ("SSL_CERT_FILE", "/etc/ssl/ca.pem", True),
        ("REQUESTS_CA_BUNDLE", "/etc/ssl/ca.pem", True),
        ("https_proxy", "http://proxy:3128", True),
        ("HTTPS_PROXY", "http://user:canary@proxy:3128", False),
        ("HTTP_PROXY", "user:canary@proxy:3128", False),
        ("NO_PROXY", "localhost,.internal", True),
        ("AWS_ENDPOINT_URL", "https://store:9000", True),
        ("AWS_ENDPOINT_URL", "https://store:9000/?sig=canary", False),
    ],
)
def test_ways_to_a_store_stay_where_they_hold_no_secret(name, value, stays):
    environment = {name: value}
    clean_environment(environment)
    assert environment == ({name: value} if stays else {})


@pytest.mark.parametrize(
    ("gpus", "visible", "local_rank", "device"),
    [
        (["3"], None, 0, "3"),
        (["3"], "0,1", 1, "3"),  # Spark's word counts
        (["3", "4"], None, 0, "3"),  # a rank drives one
        ([], None, 1, "1"),
        ([], "4, 5", 1, "5"),
        ([], "GPU-a,GPU-b", 0, "GPU-a"),
        ([], "4", 1, ""),
        ([], "", 0, ""),
    ],
)
def test_device_of_a_rank(gpus, visible, local_rank, device):
    assert device_of(gpus, visible, local_rank) == device


def test_our_errors_keep_their_fields_on_the_way():
    error = PlanError("plan", expected="a", found="b", remedy="c.", retry=True)
    again = find_in(_describe(error))
    assert (type(again), str(again), again.retry) == (PlanError, "plan: expected a; found b. c.", True)


def test_other_errors_go_as_tracebacks():
    try:
        raise ValueError("broken")
    except ValueError as error:
        text = _describe(error)
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("ValueError: broken")


def test_consequence_of_anothers_failure_is_told_from_a_cause():
    assert is_collective(RuntimeError("Horovod has been shut down."))
    assert not is_collective(ValueError("broken"))
    assert not is_collective(PlanError("plan", expected="rows", found="none in hdfs:///teams/Horovod/lake", remedy="Look."))


@pytest.mark.parametrize("what", ["the driver", "the request"])
def test_failure_before_the_training_ends_with_code_1_and_says_why(what):
    """No exit code 0 and no silence: Horovod would take the worker for one that has done its work."""
    with HeartbeatServer("127.0.0.1") as server:
        address, token = server.address, server.token
        if what == "the driver":
            server.hang_up()
        code = f"from millrace.training.worker import run_worker; run_worker('no JSON', {address!r}, {token!r}, gpus=())"
        environment = {**os.environ, "HOROVOD_RANK": "0", "HOROVOD_SIZE": "1"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
        errors = server.errors()
    assert done.returncode == 1
    if what == "the driver":
        found = find_in(done.stderr)
        assert isinstance(found, TrainingError)
        assert found.expected == f"to reach the driver at 127.0.0.1:{address[1]}"
        assert found.found == f"[Errno 111] Connection refused, on {socket.gethostname()}"
        assert found.retry
    else:
        assert "JSONDecodeError" in errors[0]["error"]


def test_workers_code_imports_no_spark():
    code = "import sys, millrace.training.loop, millrace.training.worker, millrace.models.build;print('pyspark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_worker_imports_tensorflow_only_when_the_environment_is_set():
    code = "import sys, millrace.training.worker; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
