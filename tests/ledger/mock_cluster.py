"""librdkafka's mock cluster, which does on demand what a healthy broker never does.

The wheel of confluent-kafka carries the library with all ``rd_kafka_mock_*`` symbols.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka

PRODUCE = 0
NOT_LEADER, REQUEST_TIMED_OUT, NETWORK, NOT_ENOUGH_REPLICAS = 6, 7, 13, 19

_POINTER, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_SIGNATURES = {
    "rd_kafka_conf_new": (_POINTER, []),
    "rd_kafka_new": (_POINTER, [_INT, _POINTER, _TEXT, ctypes.c_size_t]),
    "rd_kafka_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_new": (_POINTER, [_POINTER, _INT]),
    "rd_kafka_mock_cluster_destroy": (None, [_POINTER]),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, [_POINTER]),
    "rd_kafka_mock_topic_create": (_INT, [_POINTER, _TEXT, _INT, _INT]),
    "rd_kafka_mock_broker_set_down": (_INT, [_POINTER, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_up": (_INT, [_POINTER, ctypes.c_int32]),
    "rd_kafka_mock_broker_set_rtt": (_INT, [_POINTER, ctypes.c_int32, _INT]),
    "rd_kafka_mock_partition_set_leader": (
        _INT, [_POINTER, _TEXT, ctypes.c_int32, ctypes.c_int32],
    ),
    "rd_kafka_mock_push_request_errors_array": (
        None, [_POINTER, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(_INT)],
    ),
}  # fmt: skip


def _library():
    root = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(root.glob("librdkafka*.so*"))))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """Brokers 1 to ``brokers`` on loopback, with one topic; close it."""

    def __init__(self, topic, *, brokers=3, partitions=4):
        self._library = _library()
        error = ctypes.create_string_buffer(512)
        self._client = self._library.rd_kafka_new(
            0, self._library.rd_kafka_conf_new(), error, len(error)
        )
        assert self._client, error.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        self.topic, self.brokers, self.partitions = topic, brokers, partitions
        self.servers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        code = self._library.rd_kafka_mock_topic_create(
            self._cluster, topic.encode(), partitions, brokers
        )
        assert code == 0

    def push_errors(self, *codes):
        """The next produce requests are answered with these codes."""
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, PRODUCE, len(codes), (_INT * len(codes))(*codes)
        )

    def set_latency(self, ms):
        for broker in range(1, self.brokers + 1):
            assert self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, ms) == 0

    def move_leader(self, partition, broker):
        code = self._library.rd_kafka_mock_partition_set_leader(
            self._cluster, self.topic.encode(), partition, broker
        )
        assert code == 0

    def set_down(self, broker):
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, broker) == 0

    def set_up(self, broker):
        assert self._library.rd_kafka_mock_broker_set_up(self._cluster, broker) == 0

    def close(self):
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)
