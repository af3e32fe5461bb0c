"""A member of a consumer group, with a real broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient, TopicPartition

from custodes.config.model import KafkaSourceSettings
from custodes.sources.consumer_group import GroupMember
from servers import Kafka, eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


class Assignment:
    """Returns a member's assigned partitions."""

    def __init__(self) -> None:
        self.partitions: set[int] = set()

    def assigned(self, partitions: list[TopicPartition]) -> None:
        self.partitions = {partition.partition for partition in partitions}

    def revoked(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        self.partitions -= {partition.partition for partition in partitions}


@pytest.fixture
def admin(kafka: Kafka) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    yield client
    client.close()


def test_a_join_that_outlasts_many_polls_is_not_forgotten(kafka: Kafka, admin: KafkaAdminClient) -> None:
    kafka.create_topic("growing", 1)
    settings = KafkaSourceSettings(
        bootstrap_servers=[kafka.bootstrap], topics=["growing"], group_id="growing", client={"metadata_max_age_ms": 200}
    )
    given = Assignment()
    member = GroupMember(settings, "growing-member", given)
    member.connect(["growing"])
    try:
        for partitions in range(2, 8):
            admin.create_partitions({"growing": partitions})

            def has_all(count: int = partitions) -> bool:
                for _ in range(20):
                    member.poll(0.001)
                return len(given.partitions) == count

            eventually(f"{partitions} partitions", has_all)
    finally:
        member.close()
